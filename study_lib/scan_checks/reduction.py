"""A volume made small for looking at: RAS order, block means of about a given voxel size."""

import nibabel as nib
import numpy as np


def canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with axes in RAS order (a view) and the affine that goes with it."""
    orientation = nib.io_orientation(affine)
    turned = nib.apply_orientation(voxels, orientation)
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, voxels.shape)


def reduced(voxels: np.ndarray, affine: np.ndarray, voxel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Block means, with as many voxels to a block as come nearest to `voxel_mm`; an incomplete rim is cut."""
    zooms = nib.affines.voxel_sizes(affine)
    factors = np.clip(np.round(voxel_mm / zooms).astype(int), 1, voxels.shape)
    if (factors == 1).all():
        return voxels, affine
    counts = np.array(voxels.shape) // factors
    inner = voxels[tuple(slice(0, stop) for stop in counts * factors)]
    blocks = inner.reshape(np.stack([counts, factors], axis=1).ravel()).mean(axis=(1, 3, 5), dtype=np.float32)
    shrink = np.diag([*factors, 1.0])
    shrink[:3, 3] = (factors - 1) / 2
    return blocks, affine @ shrink


def otsu(values: np.ndarray) -> tuple[float, float, float]:
    """Threshold between two classes of intensities, and the means of the lower and the upper class."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = counts.sum() - below
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    best = int(np.argmax(below * above * (high - low) ** 2))
    return float(edges[best + 1]), float(low[best]), float(high[best])
