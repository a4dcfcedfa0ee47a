"""Is this the same head? Small descriptors of volumes that survive another name, orientation, grid or scale.

A volume is sampled every 6 mm on an axis-parallel grid around an anchor inside the head; the band of detail
between a smoothing of 2 and one of 6 mm is kept and normed, so that a dot product is a correlation. Measured
on public heads: copies that were re-oriented, re-scaled, cropped or resampled reach 0.99 and more, different
people less than 0.4.
"""

from dataclasses import dataclass
from functools import cache

import nibabel as nib
import numpy as np
from scipy import ndimage, optimize

from study_lib.scan_checks.reduction import canonical, otsu, reduced

SPACING_MM = 6.0
GRID_SHAPE = (27, 33, 25)  # odd, so that mirroring maps the grid on itself
WORKING_VOXEL_MM = 2.0
ANCHOR_SMOOTHING_MM, FINE_MM, COARSE_MM = 3.0, 2.0, 6.0
CORE_MM = 30.0
# The anchor is the centre of the upper 120 mm of the head: how much neck was scanned does not move it.
SLAB_MM, SLAB_FADE_MM, SMALLEST_SECTION_MM2 = 120.0, 20.0, 1500.0


@dataclass(frozen=True)
class Head:
    """A volume in RAS order at about 2 mm, background 0 and foreground around 1, and a point in the head."""

    voxels: np.ndarray
    affine: np.ndarray
    anchor: np.ndarray


def head_of(voxels: np.ndarray, affine: np.ndarray) -> Head | None:
    """The head in a volume; None where nothing of a head's size stands out."""
    small, small_affine = reduced(*canonical(voxels, affine), WORKING_VOXEL_MM)
    smooth = _smoothed(small, small_affine, ANCHOR_SMOOTHING_MM)
    threshold, low, high = otsu(smooth[::2, ::2, ::2])
    foreground = np.clip((smooth - low) / (threshold - low) - 0.5, 0, 1)
    anchor = _anchor(foreground, small_affine)
    return None if anchor is None else Head((small - low) / (high - low), small_affine, anchor)


def _smoothed(voxels: np.ndarray, affine: np.ndarray, width_mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(voxels, width_mm / nib.affines.voxel_sizes(affine), truncate=3)


def _anchor(foreground: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    """Centre of the foreground below the vertex, in world space, to a fraction of a voxel."""
    width, depth, height = nib.affines.voxel_sizes(affine)
    section = foreground.sum(axis=(0, 1), dtype=float) * width * depth
    large = np.flatnonzero(section > SMALLEST_SECTION_MM2)
    if not len(large):
        return None
    top = large[-1]
    above = section[top + 1] if top + 1 < len(section) else 0.0
    vertex = top + (section[top] - SMALLEST_SECTION_MM2) / (section[top] - above)
    below_vertex_mm = (vertex - np.arange(len(section))) * height
    weights = foreground * np.clip((SLAB_MM - below_vertex_mm) / SLAB_FADE_MM, 0, 1)
    return nib.affines.apply_affine(affine, ndimage.center_of_mass(weights))


def descriptor(head: Head) -> np.ndarray:
    """The head's detail as a unit vector, in world orientation."""
    smooth = _smoothed(head.voxels, head.affine, FINE_MM)
    samples = _sampled(smooth, head.affine, _grid() + head.anchor)
    return _normed(samples - ndimage.gaussian_filter(samples, COARSE_MM / SPACING_MM))


def upright_descriptor(head: Head) -> np.ndarray:
    """The head's detail as a unit vector after turning its own plane of symmetry upright.

    Between sessions a head is turned and tilted, and two heads turned in opposite ways are mirror images of
    each other; only with each upright does a better mirror image mean swapped sides.
    """
    coarse = _smoothed(head.voxels, head.affine, COARSE_MM)
    band = _smoothed(head.voxels, head.affine, FINE_MM) - coarse
    contour = _smoothed(head.voxels, head.affine, ANCHOR_SMOOTHING_MM)
    pose = _symmetry_pose(Head(contour, head.affine, head.anchor))
    return _normed(_sampled(band, head.affine, _posed(_grid(), pose) + head.anchor))


def mirrored(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors of the same heads with left and right swapped; the last axis is the descriptor's."""
    grids = descriptors.reshape(*descriptors.shape[:-1], *GRID_SHAPE)
    return np.flip(grids, axis=-3).reshape(descriptors.shape)


def core_likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two descriptors within 30 mm of the anchor, where no outline of the head is."""
    core = _core()
    first, second = _normed(one[core].astype(np.float32)), _normed(other[core].astype(np.float32))
    return float(first @ second)


@cache
def _core() -> np.ndarray:
    return np.linalg.norm(_grid(), axis=-1).ravel() < CORE_MM


def _grid() -> np.ndarray:
    axes = [(np.arange(n) - n // 2) * SPACING_MM for n in GRID_SHAPE]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _sampled(voxels: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    index = nib.affines.apply_affine(np.linalg.inv(affine), points)
    return ndimage.map_coordinates(voxels, np.moveaxis(index, -1, 0), order=1, mode="constant")


def _normed(samples: np.ndarray) -> np.ndarray:
    flat = samples.ravel() - samples.mean()
    return (flat / max(np.linalg.norm(flat), 1e-12)).astype(np.float32)


def _posed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points turned by yaw and roll (radians) and shifted sideways (mm)."""
    yaw, roll, shift = pose
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    return points @ (about_z @ about_y).T + [shift, 0, 0]


def _symmetry_pose(head: Head) -> np.ndarray:
    """Yaw, roll and shift under which the head is most like its own mirror image."""
    points = _grid()[::2, ::2, ::2]

    def asymmetry(scaled: np.ndarray) -> float:
        samples = _sampled(head.voxels, head.affine, _posed(points, scaled * UNITS) + head.anchor)
        return float(np.mean((samples - samples[::-1]) ** 2) / (samples.var() + 1e-12))

    start = np.zeros((4, 3))
    start[1:] = np.eye(3)
    options = {"initial_simplex": start, "xatol": 0.05, "fatol": 1e-5, "maxfev": 120}
    return optimize.minimize(asymmetry, start[0], method="Nelder-Mead", options=options).x * UNITS


# One step of the search: 4 degrees of yaw and of roll, 3 mm of shift.
UNITS = np.array([np.deg2rad(4), np.deg2rad(4), 3.0])
