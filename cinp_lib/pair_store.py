"""Pairs of prepared volumes and networks on disk, and views of some of them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int

from cinp_lib.pairs import COLUMNS, EXCLUDED_COLUMNS, FILES, PairConfig, SubjectNetworks, is_complete, write_pairs
from study_lib.manifest import Manifest
from study_lib.shapes import Networks
from study_lib.splits import forbid_leak, split_subjects

PARTS = (8, 1, 1)  # of the families, to train, to choose the state that is kept, and to evaluate the alignment
Places = Int[np.ndarray, " pair"]


@dataclass(frozen=True, eq=False)
class PairStore:
    """`table` has one row for each pair of this view, `excluded` one for each scan that was left out of the files."""

    folder: Path
    files_digest: str  # of all that the files were made of
    table: pd.DataFrame
    excluded: pd.DataFrame
    arrays: dict[str, np.ndarray]  # volumes and networks of the files; read as far as used
    places: np.ndarray  # of this view's volumes in the files
    network_places: np.ndarray  # of its networks: the same, unless they were exchanged as a control

    @classmethod
    def build(
        cls,
        rows: pd.DataFrame,
        cohort: Manifest,
        networks: SubjectNetworks | str | Path,
        folder: str | Path,
        config: PairConfig | None = None,
        n_jobs: int = -1,
    ) -> Self:
        """Prepare the rows' volumes, each once, beside their networks; finished files of the same inputs are opened."""
        if not isinstance(networks, SubjectNetworks):
            networks = SubjectNetworks.load(networks)
        write_pairs(Path(folder), rows, cohort, networks, config or PairConfig(), n_jobs)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """All pairs that `build` wrote."""
        folder = Path(folder)
        if not is_complete(folder):
            raise FileNotFoundError(f"{folder}: expected whole files of pairs; make them with PairStore.build(...)")
        content = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        table = pd.DataFrame(content["pairs"], columns=[*COLUMNS, *FILES]).astype({"age_years": float})
        everything = np.arange(len(table))
        excluded = pd.DataFrame(content["excluded"], columns=EXCLUDED_COLUMNS)
        return cls(folder, content["digest"], table, excluded, _arrays(folder), everything, everything)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which opens the files itself."""
        return vars(self) | {"arrays": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, arrays=_arrays(state["folder"]))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels of a volume."""
        return self.arrays["volumes"].shape[1:]

    @property
    def regions(self) -> int:
        """Rows of a network."""
        return self.arrays["networks"].shape[1]

    @property
    def digest(self) -> str:
        """Names the pairs of this view and what they hold."""
        words = json.dumps([self.files_digest, self.places.tolist(), self.network_places.tolist()])
        return hashlib.sha256(words.encode("utf-8")).hexdigest()

    @property
    def families(self) -> Int[np.ndarray, " pair"]:
        """A number for each family."""
        return pd.factorize(self.table["family"], sort=True)[0]

    def volumes(self, places: Places) -> Float32[np.ndarray, "pair x y z"]:
        """Prepared volumes of some pairs of this view."""
        return self.arrays["volumes"][self.places[places]].astype(np.float32)

    def volume_batches(self, size: int = 64) -> Iterator[Float32[np.ndarray, "pair x y z"]]:
        """All volumes in order, some at a time."""
        for places in places_in_batches(len(self), size):
            yield self.volumes(places)

    def networks(self, places: Places) -> Networks:
        """Their networks."""
        return self.arrays["networks"][self.network_places[places]]

    def select(self, chosen: Bool[np.ndarray, " pair"]) -> Self:
        """Only some of the pairs."""
        chosen = np.asarray(chosen, dtype=bool)
        if not chosen.any():
            raise ValueError(f"{self.folder}: expected at least one pair in the selection, got none of {len(self)}")
        table = self.table[chosen].reset_index(drop=True)
        places, network_places = self.places[chosen], self.network_places[chosen]
        return replace(self, table=table, places=places, network_places=network_places)

    def one_per_subject(self) -> Self:
        """The first pair of each subject: a gallery in which every other pair is a stranger's or a sibling's."""
        return self.select(~self.table["subject"].duplicated().to_numpy())

    def shuffled(self, seed: int) -> Self:
        """A control: networks exchanged among the people of each site, so that pairs tell of the site alone."""
        rng, exchanged = np.random.default_rng(seed), self.network_places.copy()
        for site in sorted(set(self.table["site"])):
            own = np.flatnonzero((self.table["site"] == site).to_numpy())
            exchanged[own] = self.network_places[rng.permutation(own)]
        return replace(self, network_places=exchanged)


@dataclass(frozen=True, eq=False)
class PairParts:
    """Pairs to train on, to choose the state that is kept, and to evaluate on; families are whole."""

    training: PairStore
    validation: PairStore
    test: PairStore


def pretraining_rows(cohort: Manifest) -> pd.DataFrame:
    """The rows of role pre-training with a T1w; where nobody has that role, those without a role.

    Raises LeakError where one of these people, families or scans has another role as well.
    """
    scans = cohort.table[cohort.table["t1w"] != ""]
    role = "pre-training" if (scans["role"] == "pre-training").any() else "unassigned"
    chosen = scans[scans["role"] == role]
    if chosen.empty:
        found = ", ".join(sorted(set(scans["role"]))) or "no rows"
        raise ValueError(f"pairs: expected rows of role pre-training or unassigned with a T1w, got {found}")
    forbid_leak(chosen, cohort.table[cohort.table["role"] != role])
    return chosen


def parts_of(store: PairStore, seed: int = 0, ratios: tuple[int, int, int] = PARTS) -> PairParts:
    """Families split within sites."""
    split = split_subjects(store.table, ratios, seed, stratify=("role", "site"))[0]
    named = (store.table["subject"].isin(part).to_numpy() for part in (split.train, split.validation, split.test))
    return PairParts(*(store.select(chosen) for chosen in named))


def places_in_batches(number: int, size: int) -> Iterator[Places]:
    """0 to `number`, at most so many at a time."""
    for start in range(0, number, size):
        yield np.arange(start, min(start + size, number))


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("volumes", "networks")}
