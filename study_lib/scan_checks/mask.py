"""Does a brain mask belong to its T1w, left on left?"""

import numpy as np

from study_lib.scan_checks.findings import Finding
from study_lib.scan_checks.geometry import grid_difference
from study_lib.scan_checks.reading import Scan
from study_lib.scan_checks.reduction import canonical

# Where mask and mirrored mask differ, the brighter side is brain. Below these the difference says nothing.
FEWEST_DIFFERING, LEAST_CERTAINTY = 0.005, 0.7


def check_mask_of(mask: Scan, t1w: Scan) -> list[Finding]:
    """The mask's grid is that of the T1w, and its left side lies on the left."""
    difference = grid_difference(t1w.voxels.shape, t1w.affine, mask.voxels.shape, mask.affine)
    if difference:
        kind = "left-right" if "mirrored" in difference else "grid"
        message = f"the mask is not on the grid of its T1w: {difference}"
        return [Finding(kind, message, "resample it to the T1w with nearest neighbour, or make it again from the T1w")]
    certainty = mirrored_certainty(mask, t1w)
    if certainty < LEAST_CERTAINTY:
        return []
    message = (
        f"the mask fits its T1w better with left and right swapped: where the two differ, the swapped one "
        f"covers the brighter tissue in {certainty:.0%} of comparisons"
    )
    return [Finding("left-right", message, "make the mask again from this T1w, or swap its first axis back")]


def mirrored_certainty(mask: Scan, t1w: Scan) -> float:
    """Probability that a voxel only the mirrored mask covers is brighter than one only the mask covers."""
    inside = canonical(mask.voxels, mask.affine)[0] > 0
    image = canonical(t1w.voxels, t1w.affine)[0]
    swapped = inside[::-1]
    only_mask, only_swapped = image[inside & ~swapped], image[swapped & ~inside]
    if min(len(only_mask), len(only_swapped)) < FEWEST_DIFFERING * inside.sum() or not len(only_mask):
        return 0.5
    return _probability_greater(only_swapped, only_mask)


def _probability_greater(one: np.ndarray, other: np.ndarray) -> float:
    """P(one > other) + P(equal) / 2 over all pairs (the Mann-Whitney statistic)."""
    other = np.sort(other)
    below, up_to = np.searchsorted(other, one, "left"), np.searchsorted(other, one, "right")
    return float((below + up_to).mean() / 2 / len(other))
