"""Is an atlas where its reference brain is?"""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np

from study_lib.scan_checks.findings import Finding, UnreadableScan, suspicion
from study_lib.scan_checks.geometry import check_geometry, corner_distance
from study_lib.scan_checks.reading import read_scan

# Of a right copy of AAL 97 % of the labelled voxels lie in the MNI152 brain, and moving it gains less than
# 0.1 %; of a public copy that is 2 mm off, 96 %, and moving it back gains 1 %.
LEAST_OVERLAP, LEAST_GAIN = 0.85, 0.004
SEARCHED_VOXELS = 2
SAMPLED_VOXELS = 40_000


def check_atlas(
    atlas: str | Path | nib.Nifti1Image, reference: str | Path | nib.Nifti1Image, n_labels: int = 116
) -> list[Finding]:
    """Labels, grid and place of `atlas` against `reference`, a brain mask or a skull-stripped template."""
    try:
        labels, affine, problems = _opened(atlas)
        brain, brain_affine, brain_problems = _opened(reference)
    except UnreadableScan as error:
        return [error.finding]
    findings = problems + brain_problems
    if any(finding.is_error for finding in findings):
        return findings
    findings += _check_labels(labels, n_labels)
    findings += _check_grid(labels.shape, affine, brain.shape, brain_affine)
    return findings + _check_place(labels, affine, brain > 0, brain_affine)


def _opened(image: str | Path | nib.Nifti1Image) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    if isinstance(image, str | Path):
        scan = read_scan(image)
        return scan.voxels, scan.affine, check_geometry(scan.header, scan.affine)
    voxels = np.asanyarray(image.dataobj)
    return voxels, image.affine, check_geometry(image.header, image.affine)


def _check_labels(labels: np.ndarray, n_labels: int) -> list[Finding]:
    values = np.unique(labels)
    if not np.array_equal(values, np.round(values)) or values[0] < 0:
        fix = "resample the atlas with nearest neighbour from its original"
        return [Finding("labels", "labels are not whole numbers from 0 up: the atlas was interpolated", fix)]
    found = np.count_nonzero(values)
    if found == n_labels:
        return []
    fix = f"use an atlas of {n_labels} regions, or give n_labels; regions vanish in coarse resampling"
    return [Finding("labels", f"expected {n_labels} labels beside 0, got {found}", fix)]


def _check_grid(
    shape: tuple[int, ...], affine: np.ndarray, reference_shape: tuple[int, ...], reference_affine: np.ndarray
) -> list[Finding]:
    if shape != reference_shape:
        message = f"the atlas has shape {shape}, the reference {reference_shape}"
        return [suspicion("grid", message, "resample the atlas to the reference with nearest neighbour")]
    distance = corner_distance(affine, reference_affine, shape)
    if distance < 0.01:
        return []
    shift = (affine - reference_affine)[:3, 3]
    message = (
        f"the atlas has the shape of the reference but its affine is off by up to {distance:.2f} mm "
        f"(translation by {_shown(shift)})"
    )
    return [Finding("affine", message, "take the atlas from its source again, or correct the affine")]


def _check_place(labels: np.ndarray, affine: np.ndarray, brain: np.ndarray, brain_affine: np.ndarray) -> list[Finding]:
    points = nib.affines.apply_affine(affine, _sample(np.argwhere(labels > 0)))
    if not len(points):
        return []
    steps = range(-SEARCHED_VOXELS, SEARCHED_VOXELS + 1)
    size = nib.affines.voxel_sizes(affine)
    overlaps = {s: _overlap(points + s * size, brain, brain_affine) for s in itertools.product(steps, repeat=3)}
    here, best = overlaps[0, 0, 0], max(overlaps, key=lambda s: (round(overlaps[s], 4), -np.abs(s).sum()))
    if overlaps[best] - here > LEAST_GAIN:
        message = (
            f"the atlas is off: {here:.1%} of the labelled voxels lie in the reference brain, "
            f"{overlaps[best]:.1%} after moving it by {_shown(best * size)}"
        )
        return [Finding("place", message, "take the atlas from its source again, or correct its affine by this shift")]
    if here < LEAST_OVERLAP:
        message = f"only {here:.1%} of the labelled voxels lie in the reference brain"
        return [Finding("place", message, "use atlas and reference of one space (MNI152, same version)")]
    return []


def _sample(voxels: np.ndarray) -> np.ndarray:
    # Evenly spaced, so that the result is the same every time.
    return voxels[:: max(1, len(voxels) // SAMPLED_VOXELS)]


def _overlap(points: np.ndarray, brain: np.ndarray, brain_affine: np.ndarray) -> float:
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(brain_affine), points)).astype(int)
    inside = ((index >= 0) & (index < brain.shape)).all(axis=1)
    return float(brain[tuple(index[inside].T)].sum() / len(points))


def _shown(shift_mm: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:+.4g}" for value in shift_mm) + ") mm"
