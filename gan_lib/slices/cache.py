"""The files of a store of slices: built once, by one process at a time, and gone on with after a kill.

`images.npy` (float32) and `masks.npy` (bool) hold (volume, slice, row, column): axial slices of one region.
`store.json` is written last.
"""

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from gan_lib.slices.box import SliceBox, check_plane
from gan_lib.slices.pieces import Piece, digest_of, make_piece, piece_key, read_piece
from gan_lib.slices.placing import Place, place_pieces, region_of, write_slices
from gan_lib.slices.rows import check_sites, rows_of_role
from study_lib.files import atomic_write_json
from study_lib.grid import Grid
from study_lib.intensity import Normaliser, StudyNormaliser
from study_lib.lock import Busy, only_one
from study_lib.manifest import Manifest

# A slice with less brain than this share of the region is never drawn. At 2 mm that is a disc of 25 mm: the caps
# of the brain go, its stem stays. With fewer voxels, instance statistics would be those of the background.
LEAST_SHARE = 0.02
FILES = ("images.npy", "masks.npy", "areas.npz", "normaliser.json")


@dataclass(frozen=True)
class StoreConfig:
    """How volumes become slices. A store with `region` and `sites` of another one fits the same model."""

    grid: Grid = field(default_factory=lambda: Grid.isotropic(2.0))
    normaliser: Normaliser = field(default_factory=StudyNormaliser)
    role: str = "train"  # only rows of this role enter
    margin: int = 0  # voxels around the brains' common bounding box; the padding of slices gives some anyway
    least_share: float = LEAST_SHARE
    region: SliceBox | None = None  # None = around these brains
    sites: tuple[str, ...] = ()  # in the order of the model's branches; () = those of the rows, sorted
    plane: str = "axial"  # of the view that is opened
    multiple: int = 16  # both sides of a slice are multiples of it

    def __post_init__(self) -> None:
        check_plane(self.plane)
        if self.region:
            object.__setattr__(self, "region", self.region.in_plane("axial"))  # as the files lie
            if self.region.grid_shape != self.grid.shape:
                raise ValueError(
                    f"StoreConfig.region: expected one in the grid of shape {self.grid.shape}, "
                    f"got {self.region.grid_shape}; give the grid of the store that the region is of"
                )
        if not 0 < self.least_share < 1:
            raise ValueError(f"StoreConfig.least_share: expected a share between 0 and 1, got {self.least_share}")
        if self.normaliser.needs_fit and self.normaliser.learned is None:
            kind = type(self.normaliser).__name__
            raise ValueError(f"StoreConfig.normaliser: the {kind} is not fitted; fit it on training volumes first")

    def content(self) -> dict:
        """The settings that decide on the voxels, but the normaliser, as JSON takes them."""
        return {
            "grid": {"shape": self.grid.shape, "affine": self.grid.affine.tolist()},
            "role": self.role,
            "margin": self.margin,
            "least_share": self.least_share,
            "region": asdict(self.region) if self.region else None,
            "sites": list(self.sites),
        }


def fill(folder: Path, rows: pd.DataFrame, cohort: Manifest, config: StoreConfig, n_jobs: int, progress: bool) -> None:
    """Write the files of a store, unless they are there already."""
    chosen, refused = rows_of_role(rows, cohort, config.role, config.sites)
    series = [row for _, row in chosen.iterrows()]
    keys = [piece_key(cohort, row, config.grid, config.normaliser) for row in series]
    families = chosen["family"].astype(str).tolist()
    digest = digest_of([config.content(), keys, families, refused])
    with _turn(folder / "lock"):
        if is_complete(folder, digest):
            return _update_view(folder, config)
        paths = [folder / "pieces" / f"{key}.npz" for key in keys]
        _clear(folder, keep=set(paths))
        jobs = (
            delayed(make_piece)(cohort, row, config.grid, config.normaliser, path)
            for row, path in zip(series, paths, strict=True)
        )
        # Threads: decompression and resampling let go of the interpreter, and no process has to start.
        done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs)
        refused += filter(None, tqdm(done, total=len(keys), desc="slices", unit="volume", disable=not progress))
        pieces = [read_piece(row, path, config.grid) for row, path in zip(series, paths, strict=True) if path.is_file()]
        _assemble(folder, pieces, refused, config, digest)


def is_complete(folder: Path, digest: str | None = None) -> bool:
    """Whether a store (of this digest) is whole: its JSON knows the sizes of the files."""
    try:
        content = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in FILES}
    except (FileNotFoundError, ValueError):
        return False
    return sizes == content.get("bytes") and digest in (None, content["digest"])


def _assemble(folder: Path, pieces: list[Piece], refused: list[dict], config: StoreConfig, digest: str) -> None:
    """Give every piece its place in one region, and write the store."""
    sites = config.sites or tuple(sorted({p.row["site"] for p in pieces} | {r["site"] for r in refused}))
    check_sites([piece.row["site"] for piece in pieces], sites, refused, config.role)
    region = config.region or region_of(pieces, config.margin)
    placed, misfits = place_pieces(pieces, region, config.least_share)
    refused += misfits
    check_sites([piece.row["site"] for piece, _ in placed], sites, refused, config.role)
    (folder / "store.json").unlink(missing_ok=True)  # from here until it is written again there is no store
    write_slices(folder, placed, region)
    config.normaliser.save(folder / "normaliser.json")
    content = config.content() | {
        "digest": digest,
        "sites": sites,
        "region": asdict(region),
        "plane": config.plane,
        "multiple": config.multiple,
        "volumes": [_record(piece, place) for piece, place in placed],
        "excluded": refused,
        "bytes": {name: (folder / name).stat().st_size for name in FILES},
    }
    atomic_write_json(folder / "store.json", content)
    _clear(folder)


def _record(piece: Piece, place: Place) -> dict:
    row = {name: str(piece.row[name]) for name in ("subject", "family", "session", "site", "role", "t1w")}
    return row | {"centred": piece.centred, "moved": place.moved, "cut": place.cut}


def _update_view(folder: Path, config: StoreConfig) -> None:
    """Plane and multiple change no voxel: they are only noted."""
    content = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    view = {"plane": config.plane, "multiple": config.multiple}
    if content | view != content:
        atomic_write_json(folder / "store.json", content | view)


def _clear(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove what a killed build left, but the pieces that are still good."""
    for path in [*folder.glob(".partial-*"), *(folder / "pieces").glob("*")]:  # `*` finds hidden files too
        if path not in keep:
            path.unlink(missing_ok=True)


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait for whoever builds here at the moment, such as another rank."""
    while True:
        try:
            with only_one(lock):
                yield
                return
        except Busy:
            time.sleep(0.5)
