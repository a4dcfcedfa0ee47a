"""Does a volume look like a T1-weighted head, or like a tissue map, a mask or another contrast?"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from study_lib.scan_checks.findings import Finding, suspicion
from study_lib.scan_checks.reduction import canonical, otsu, reduced

VOXEL_MM = 4.0
CLOSING_MM = 8.0
FEWEST_VALUES = 32
# Measured on public T1s (whole head, skull-stripped, template, normalised to [0, 1]) against MNI tissue maps:
# deep voxels at zero 0-5 % against 28 % (grey), saturated 0-13 % against 44 % (white), deep over rim 1.1-3.3
# against 0.5 (grey).
MOST_DEEP_ZEROS, MOST_DEEP_SATURATED, LEAST_DEEP_OVER_RIM = 0.15, 0.25, 0.9
FEWEST_VOXELS = 20
SAMPLED_VOXELS = 50_000


@dataclass(frozen=True)
class Contrast:
    """What tells a T1 from a map: `deep` is the inner half of the head by depth, `rim` its outer quarter.

    The last three are NaN where the head is too small to have a depth.
    """

    lowest: float
    highest: float
    distinct: int
    deep_zeros: float
    deep_saturated: float
    deep_over_rim: float


def check_contrast(voxels: np.ndarray, affine: np.ndarray) -> list[Finding]:
    """A warning with the evidence when the volume does not look T1-weighted."""
    contrast = contrast_of(voxels, affine)
    evidence = _evidence(contrast)
    if not evidence:
        return []
    unit = " (all values within [0, 1])" if contrast.lowest >= 0 and contrast.highest <= 1 else ""
    message = f"not T1-like: {'; '.join(evidence)}{unit}"
    return [suspicion("contrast", message, "look at it; write the path of the T1w if this is a map or mask")]


def _evidence(contrast: Contrast) -> list[str]:
    evidence = []
    if contrast.distinct < FEWEST_VALUES:
        evidence.append(f"only {contrast.distinct} distinct values, as in a mask or label image")
    if np.isnan(contrast.deep_over_rim):
        return evidence
    if contrast.deep_zeros > MOST_DEEP_ZEROS:
        evidence.append(f"{contrast.deep_zeros:.0%} of the voxels deep in the head are about 0, as in a tissue map")
    if contrast.deep_saturated > MOST_DEEP_SATURATED:
        evidence.append(f"{contrast.deep_saturated:.0%} of the deep voxels are at the maximum, as in a tissue map")
    if contrast.deep_over_rim < LEAST_DEEP_OVER_RIM:
        ratio = f"{contrast.deep_over_rim:.2f} times the rim"
        evidence.append(f"deep tissue is {ratio}, while T1 weighting makes deep white matter brighter than grey")
    return evidence


def contrast_of(voxels: np.ndarray, affine: np.ndarray) -> Contrast:
    """Measure a finite volume that is not constant."""
    sample = voxels.ravel(order="K")[:: max(1, voxels.size // SAMPLED_VOXELS)]
    small, small_affine = reduced(*canonical(voxels, affine), VOXEL_MM)
    threshold, low, high = otsu(small)
    depth = _depth(small > low + 0.3 * (high - low), nib.affines.voxel_sizes(small_affine))
    deep = small[depth > 0.5 * depth.max()]
    rim = small[(depth > 0) & (depth <= 0.25 * depth.max())]
    values = float(voxels.min()), float(voxels.max()), len(np.unique(sample))
    bright = sample[sample > threshold]
    if min(len(deep), len(rim), len(bright)) < FEWEST_VOXELS:
        return Contrast(*values, np.nan, np.nan, np.nan)
    scale, top = high - low, np.percentile(bright, 99.8) - low
    zeros = float(np.mean(deep < low + 0.1 * scale))
    saturated = float(np.mean(deep >= low + 0.95 * top))
    ratio = float((np.median(deep) - low) / max(np.median(rim) - low, 1e-6 * scale))
    return Contrast(*values, zeros, saturated, ratio)


def _depth(foreground: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Distance in mm from the outside of the largest object, its folds and holes filled."""
    labels, count = ndimage.label(foreground)
    if count > 1:
        foreground = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    steps = max(1, round(CLOSING_MM / zooms.min()))
    padded = np.pad(foreground, steps + 1)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(padded, iterations=steps))
    depth = ndimage.distance_transform_edt(filled, sampling=zooms)
    inner = (slice(steps + 1, -steps - 1),) * 3
    return depth[inner]
