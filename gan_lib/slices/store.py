"""A store of slices: prepared volumes on disk, seen as stacks of one plane."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int

from gan_lib.slices.box import PLANES, SliceBox
from gan_lib.slices.cache import StoreConfig, fill, is_complete
from gan_lib.slices.rows import EXCLUDED_COLUMNS
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.manifest import Manifest

Slices = Float32[np.ndarray, "slice height width"]
SliceMasks = Bool[np.ndarray, "slice height width"]


@dataclass(frozen=True, eq=False)
class SliceStore:
    """`table` has one row per volume, `excluded` one per volume left out; `box` says how any volume is cropped."""

    folder: Path
    table: pd.DataFrame
    excluded: pd.DataFrame
    config: StoreConfig  # with the region and the sites that were found
    box: SliceBox  # of one slice stack as it is drawn: the region, padded
    arrays: dict[str, np.ndarray]  # images and masks (volume, slice, row, column), axial; read as far as used
    areas: dict[str, np.ndarray]  # plane -> (volume, slice): brain voxels

    @classmethod
    def build(
        cls,
        rows: pd.DataFrame,
        cohort: Manifest,
        folder: str | Path,
        config: StoreConfig | None = None,
        n_jobs: int = -1,
        progress: bool = True,
    ) -> Self:
        """Prepare the rows' volumes, each once; a finished store of the same inputs is opened as it is.

        A folder holds one store: other inputs or settings replace it.
        """
        fill(Path(folder), rows, cohort, config or StoreConfig(), n_jobs, progress)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open what `build` wrote."""
        folder = Path(folder)
        if not is_complete(folder):
            raise FileNotFoundError(f"{folder}: expected a whole store of slices; make it with SliceStore.build(...)")
        content = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        config = _config(content, Normaliser.load(folder / "normaliser.json"))
        with np.load(folder / "areas.npz") as saved:
            areas = dict(saved)
        table, excluded = pd.DataFrame(content["volumes"]), pd.DataFrame(content["excluded"], columns=EXCLUDED_COLUMNS)
        box = config.region.in_plane(config.plane).padded(config.multiple)
        return cls(folder, table, excluded, config, box, _arrays(folder), areas)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which opens the files itself."""
        return vars(self) | {"arrays": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, arrays=_arrays(state["folder"]))

    def in_plane(self, plane: str, multiple: int | None = None, size: tuple[int, int] | None = None) -> Self:
        """The same volumes as slices of another plane, padded to a multiple, or to a given height and width."""
        config = replace(self.config, plane=plane, multiple=multiple or self.config.multiple)
        box = config.region.in_plane(plane).padded(config.multiple, size)
        return replace(self, config=config, box=box)

    def companion(self, role: str) -> StoreConfig:
        """The settings of a store of other people whose slices fit the same model."""
        return replace(self.config, role=role)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names in the order of the site numbers."""
        return self.config.sites

    @property
    def role(self) -> str:
        """The role of all rows."""
        return self.config.role

    @property
    def plane(self) -> str:
        """The plane of the slices."""
        return self.config.plane

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        return self.box.size

    @property
    def inner(self) -> SliceBox:
        """The region in this plane, without the padding."""
        return self.config.region.in_plane(self.plane)

    def volumes(self, site: str) -> Int[np.ndarray, " volume"]:
        """The volumes of a site."""
        if site not in self.sites:
            raise KeyError(f"site: expected one of {', '.join(self.sites)}, got {site!r}")
        return np.flatnonzero((self.table["site"] == site).to_numpy())

    def full(self) -> Bool[np.ndarray, "volume slice"]:
        """Which slices hold enough brain to be drawn."""
        height, width = self.inner.size
        return self.areas[self.plane] >= self.config.least_share * height * width

    def stack(self, index: int) -> tuple[Slices, SliceMasks]:
        """All slices of one volume and their masks, padded."""
        if not 0 <= index < len(self):
            raise KeyError(f"volume: expected a number from 0 to {len(self) - 1}, got {index}")
        slices = np.arange(self.box.shape[0])
        volumes = np.full_like(slices, index)
        return self.take("images", volumes, slices), self.take("masks", volumes, slices)

    def take(
        self, name: str, volumes: Int[np.ndarray, "slice"], slices: Int[np.ndarray, "slice"]
    ) -> Slices | SliceMasks:
        """Slices of any volumes, `images` or `masks`, padded."""
        source = self.arrays[name]
        taken = np.zeros((len(slices), *self.size), source.dtype)
        order = [0, *(1 + PLANES["axial"].index(axis) for axis in PLANES[self.plane])]
        top, left = (inner - low for inner, low in zip(self.inner.low[1:], self.box.low[1:], strict=True))
        height, width = self.inner.size
        taken[:, top : top + height, left : left + width] = source.transpose(order)[volumes, slices]
        return taken


def _config(content: dict, normaliser: Normaliser) -> StoreConfig:
    names = ("role", "margin", "least_share", "plane", "multiple")
    return StoreConfig(
        grid=Grid(tuple(content["grid"]["shape"]), np.array(content["grid"]["affine"])),
        normaliser=normaliser,
        region=SliceBox(**content["region"]),
        sites=tuple(content["sites"]),
        **{name: content[name] for name in names},
    )


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("images", "masks")}
