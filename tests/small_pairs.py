"""Pairs of tiny volumes and networks that share a trait, for tests."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from cinp_lib.pair_store import PairStore
from cinp_lib.pairs import PairConfig, SubjectNetworks
from study_lib.intensity import MinMaxNormaliser
from study_lib.manifest import COLUMNS, Manifest, load_manifest

REGIONS = 8
PAIRS = PairConfig((16, 16, 16), 12.0, MinMaxNormaliser())


@dataclass(frozen=True)
class Person:
    """One scan. `trait` decides on the image and on the network."""

    name: str
    site: str
    trait: tuple[float, ...]
    session: str = ""
    family: str = ""
    role: str = "pre-training"


def people(number: int = 16, sites: tuple[str, ...] = ("Alpha", "Beta"), seed: int = 0) -> list[Person]:
    """Strangers with traits of their own, alternating between the sites."""
    traits = np.random.default_rng(seed).normal(size=(number, 4))
    return [Person(f"p{k:02d}", sites[k % len(sites)], tuple(trait)) for k, trait in enumerate(traits)]


def head(person: Person, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Volume and mask on the tests' grid: an ellipsoid of four quarters, as bright as the trait says."""
    x, y, z = np.moveaxis((np.indices(PAIRS.size) - 7.5) / np.reshape([5.5, 6.5, 5.0], (3, 1, 1, 1)), 0, 0)
    mask = x**2 + y**2 + z**2 < 1
    quarter = (x > 0).astype(int) + 2 * (y > 0)
    volume = 500 + 100 * np.take(person.trait, quarter) + noise * np.random.default_rng(7).normal(size=x.shape)
    volume[8, 8, 8], volume[7, 7, 7] = 10, 1000  # the darkest and the brightest are alike in everybody
    return np.where(mask, volume, 0).astype(np.float32), mask


def network(person: Person) -> np.ndarray:
    """A correlation matrix whose first edges are the trait's."""
    matrix = np.full((REGIONS, REGIONS), 0.1, np.float32)
    for k, value in enumerate(person.trait):
        matrix[2 * k, 2 * k + 1] = matrix[2 * k + 1, 2 * k] = np.tanh(value)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def networks_of(group: list[Person]) -> SubjectNetworks:
    """Everybody's network."""
    places: dict[str, dict[str, int]] = {}
    for place, person in enumerate(group):
        places.setdefault(person.name, {})[person.session] = place
    return SubjectNetworks(places, np.array([network(person) for person in group]))


def write_cohort(folder: Path, group: list[Person]) -> Manifest:
    """T1w, masks and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for person in group:
        stem = f"{person.name}{person.session}"
        volume, mask = head(person)
        nib.save(nib.Nifti1Image(volume, PAIRS.grid.affine), folder / f"{stem}_T1w.nii")
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), PAIRS.grid.affine), folder / f"{stem}_mask.nii")
        row = {"subject": person.name, "family": person.family or person.name, "session": person.session}
        row |= {"cohort": "test", "site": person.site, "diagnosis": "control", "role": person.role, "sex": "F"}
        rows.append(row | {"t1w": f"{stem}_T1w.nii", "t1w_mask": f"{stem}_mask.nii", "age_years": 20 + len(rows) % 30})
    csv = folder / "manifest.csv"
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(csv, index=False)
    return load_manifest(csv, check_files=False)


def write_store(folder: Path, group: list[Person]) -> PairStore:
    """Prepared pairs of everybody."""
    cohort = write_cohort(folder / "data", group)
    return PairStore.build(cohort.table, cohort, networks_of(group), folder / "pairs", PAIRS, 1)


def halves(store: PairStore, training: int = 12) -> tuple[PairStore, PairStore]:
    """The first pairs to train on, the others to validate on."""
    first = np.arange(len(store)) < training
    return store.select(first), store.select(~first)
