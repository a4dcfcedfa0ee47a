"""Do the voxels hold an image at all?"""

import numpy as np

from study_lib.scan_checks.findings import Finding, suspicion

FETCH = "convert or download the scan again; leave it out if the source is like this"


def check_values(voxels: np.ndarray) -> list[Finding]:
    """NaN or infinite voxels; one value everywhere."""
    lowest, highest = float(voxels.min()), float(voxels.max())  # NaN and infinity show in these
    if not np.isfinite([lowest, highest]).all():
        return [_not_finite(voxels)]
    if lowest == highest == 0:
        return [Finding("all zero", "every voxel is 0", FETCH)]
    if lowest == highest:
        return [Finding("constant", f"every voxel is {lowest:g}", FETCH)]
    return []


def _not_finite(voxels: np.ndarray) -> Finding:
    nan, infinite = int(np.isnan(voxels).sum()), int(np.isinf(voxels).sum())
    parts = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite"] * bool(infinite)
    message = f"{' and '.join(parts)} of {voxels.size} voxels"
    return Finding("not finite", message, "convert it again, or set them to 0 if they lie outside the head")


def check_mask_values(voxels: np.ndarray) -> list[Finding]:
    """A mask holds two values."""
    distinct = np.unique(voxels)
    if len(distinct) <= 2:
        return []
    message = f"the mask holds {len(distinct)} distinct values, not two"
    return [suspicion("mask values", message, "threshold it (> 0.5 for a probability map)")]
