"""Scans made comparable: read from a manifest, upright, on one grid, with the brain marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from study_lib.brain_mask import brain_mask
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.manifest import Manifest
from study_lib.volume import load_volume, resample

# Of a brain's voxels, on the faces of the grid: a brain that ends at a face shows a section there.
LARGEST_CUT_SHARE = 0.005


@dataclass(frozen=True)
class PreparedScan:
    """One T1w on a grid. Outside its field of view the head is 0."""

    subject: str
    session: str
    site: str
    head: np.ndarray  # in the scanner's own units
    mask: np.ndarray

    @property
    def brain_values(self) -> np.ndarray:
        """The voxels of the brain, in the scanner's own units."""
        return self.head[self.mask]

    def normalised(self, normaliser: Normaliser) -> np.ndarray:
        """The brain in the units of a normaliser, background 0."""
        return normaliser.transform(self.head, self.mask, self.subject)


def prepare_scan(cohort: Manifest, row: pd.Series, grid: Grid) -> PreparedScan:
    """Read one row's T1w and its brain mask (or recognise that it is stripped) and bring both to the grid."""
    image = load_volume(cohort.path(row, "t1w"))
    mask = brain_mask(image, cohort.path(row, "t1w_mask") if row["t1w_mask"] else None)
    inside = (
        np.asarray(resample(nib.Nifti1Image(np.asarray(mask.dataobj, np.float32), mask.affine), grid).dataobj) > 0.5
    )
    head = np.asarray(resample(image, grid).dataobj, dtype=np.float32)
    return PreparedScan(row["subject"], row["session"], row["site"], head, inside)


def placed_scan(cohort: Manifest, row: pd.Series, grid: Grid) -> tuple[PreparedScan, bool]:
    """The scan on the grid; where the brain lies off it, on one of its shape around the brain, and True."""
    scan = prepare_scan(cohort, row, grid)
    if not is_cut(scan.mask):
        return scan, False
    mask = brain_mask(load_volume(cohort.path(row, "t1w")), cohort.path(row, "t1w_mask") if row["t1w_mask"] else None)
    scan = prepare_scan(cohort, row, Grid.around(mask, min(grid.spacing_mm), grid.shape))
    if is_cut(scan.mask):
        raise ValueError(
            f"the brain does not fit into the grid of {grid.shape} voxels of {min(grid.spacing_mm):g} mm; "
            "check mask and affine, or give a larger grid"
        )
    return scan, True


def is_cut(mask: np.ndarray) -> bool:
    """Whether a brain goes on past the grid, or lies off it: too much of it lies on the grid's faces."""
    faces = sum(int(mask.take(end, axis=axis).sum()) for axis in range(3) for end in (0, -1))
    return not mask.any() or faces > LARGEST_CUT_SHARE * mask.sum()


def prepare_scans(cohort: Manifest, rows: pd.DataFrame, grid: Grid, n_jobs: int = 1) -> list[PreparedScan]:
    """The same for many rows, in their order."""
    jobs = (delayed(prepare_scan)(cohort, row, grid) for _, row in rows.iterrows())
    done = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    return list(tqdm(done, total=len(rows), desc="scans", unit="scan", disable=len(rows) < 5))


def mean_absolute_differences(scans: Sequence[PreparedScan], normaliser: Normaliser) -> np.ndarray:
    """(scan, scan): how far apart two scans are on average, over the voxels that are brain in either of them."""
    volumes = [scan.normalised(normaliser) for scan in scans]
    distances = np.zeros((len(scans), len(scans)))
    for i in range(len(scans)):
        for j in range(i):
            either = scans[i].mask | scans[j].mask
            distances[i, j] = distances[j, i] = np.abs(volumes[i][either] - volumes[j][either]).mean()
    return distances
