"""Tiny volumes whose voxels tell whose slice they are, for tests of slices."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from gan_lib.slices import StoreConfig
from study_lib.grid import Grid
from study_lib.intensity import MinMaxNormaliser
from study_lib.manifest import COLUMNS, Manifest, load_manifest

GRID = Grid((19, 23, 17), np.diag([2.0, 2.0, 2.0, 1.0]))  # odd sizes, and no two alike
CONFIG = StoreConfig(grid=GRID, normaliser=MinMaxNormaliser(), multiple=4)


@dataclass(frozen=True)
class Person:
    """One row. Voxels hold `code`; the brain is a box in the grid, with thin ends of `cap` slices below and above."""

    name: str
    site: str
    number: int
    role: str = "train"
    session: str = ""
    family: str = ""
    low: tuple[int, int, int] = (3, 4, 2)
    shape: tuple[int, int, int] = (11, 13, 12)
    cap: int = 1


def code(number: int, z: np.ndarray) -> np.ndarray:
    """A value from 0 to 1000 that is one person's and one axial slice's own."""
    return 1 + 20 * number + z


def decode(image: np.ndarray, mask: np.ndarray) -> tuple[int, int]:
    """Person and z of a normalised axial slice."""
    found = round(float(np.median(image[mask])) * 1000) - 1
    return found // 20, found % 20


def brain(person: Person) -> np.ndarray:
    """The mask: a box, whose caps hold two voxels a slice."""
    mask = np.zeros(GRID.shape, bool)
    (x, y, z), (dx, dy, dz) = person.low, person.shape
    mask[x : x + dx, y : y + dy, z + person.cap : z + dz - person.cap] = True
    mask[x : x + 2, y, z : z + dz] = True
    return mask


def head(person: Person) -> np.ndarray:
    """The volume; two voxels reach 0 and 1000, so that the darkest and the brightest are alike in all volumes."""
    mask = brain(person)
    volume = np.where(mask, code(person.number, np.arange(GRID.shape[2])), 0).astype(np.float32)
    dark, bright = np.argwhere(mask)[len(np.argwhere(mask)) // 2 :][:2]
    volume[tuple(dark)], volume[tuple(bright)] = 0, 1000
    return volume


def write_cohort(folder: Path, people: Iterable[Person], affine: np.ndarray = GRID.affine) -> Manifest:
    """Files and manifest of these people."""
    rows = []
    for person in people:
        stem = f"{person.name}{person.session}"
        nib.save(nib.Nifti1Image(head(person), affine), folder / f"{stem}_T1w.nii")
        nib.save(nib.Nifti1Image(brain(person).astype(np.uint8), affine), folder / f"{stem}_mask.nii")
        row = {"subject": person.name, "family": person.family or person.name, "session": person.session}
        row |= {"cohort": "test", "site": person.site, "diagnosis": "control", "role": person.role}
        rows.append(row | {"t1w": f"{stem}_T1w.nii", "t1w_mask": f"{stem}_mask.nii"})
    csv = folder / "manifest.csv"
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(csv, index=False)
    return load_manifest(csv, check_files=False)


PEOPLE = (
    Person("ann", "Alpha", 0),
    Person("bob", "Alpha", 1, session="1", low=(2, 3, 3)),
    Person("bob", "Alpha", 2, session="2", low=(4, 5, 1)),
    Person("cem", "Alpha", 3, shape=(10, 12, 9)),
    Person("dia", "Beta", 4, shape=(11, 13, 8), cap=3),  # one subject with two slices that hold enough brain
    Person("eva", "Gamma", 5, low=(5, 6, 3), shape=(9, 11, 11)),
    Person("fay", "Gamma", 6, shape=(12, 14, 13), cap=2),
)
