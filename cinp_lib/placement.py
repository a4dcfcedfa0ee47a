"""A scan on a fixed grid of voxels, whatever space it comes in."""

from collections.abc import Mapping

import numpy as np

from study_lib.brain_mask import brain_mask
from study_lib.grid import Grid
from study_lib.manifest import Manifest
from study_lib.preparation import PreparedScan, prepare_scan
from study_lib.volume import load_volume

# Of a brain's voxels, on the faces of the grid: a brain that ends at a face shows a section there.
LARGEST_CUT_SHARE = 0.005


def placed_scan(cohort: Manifest, row: Mapping, grid: Grid) -> PreparedScan:
    """The scan on the grid; where its brain lies off it, as in native space, a grid around the brain."""
    scan = prepare_scan(cohort, row, grid)
    if not is_cut(scan.mask):
        return scan
    mask = brain_mask(load_volume(cohort.path(row, "t1w")), cohort.path(row, "t1w_mask") if row["t1w_mask"] else None)
    scan = prepare_scan(cohort, row, Grid.around(mask, min(grid.spacing_mm), grid.shape))
    if is_cut(scan.mask):
        raise ValueError(
            f"the brain does not fit into {grid.shape} voxels of {min(grid.spacing_mm):g} mm; "
            "check mask and affine, or choose larger voxels"
        )
    return scan


def is_cut(mask: np.ndarray) -> bool:
    """Whether a brain goes on past the grid, or lies off it: too much of it lies on the grid's faces."""
    faces = sum(int(mask.take(end, axis=axis).sum()) for axis in range(3) for end in (0, -1))
    return not mask.any() or faces > LARGEST_CUT_SHARE * mask.sum()
