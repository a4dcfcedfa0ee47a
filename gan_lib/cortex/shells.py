"""Cortices whose thickness is known: what a measure has to find before it is used on a head."""

import numpy as np
from nibabel.nifti1 import Nifti1Image


def spherical_shell(
    thickness_mm: float,
    voxel_mm: float = 1.0,
    radius_mm: float = 30.0,
    shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Nifti1Image:
    """A ball of white matter in a shell of grey matter, its centre at 0 mm and off the voxel centres by `shift`."""
    if not min(thickness_mm, voxel_mm, radius_mm) > 0:
        raise ValueError(f"shell: expected sizes above 0, got {thickness_mm}, {voxel_mm} and {radius_mm} mm")
    n = int(np.ceil((radius_mm + thickness_mm) / voxel_mm)) + 2
    axes = [voxel_mm * (np.arange(-n, n + 1) - shift) for shift in shift_voxels]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    distance = np.sqrt(x**2 + y**2 + z**2) - radius_mm
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    labels = np.where(distance < 0, 2, np.where(distance < thickness_mm, 1, 0))
    return Nifti1Image(labels.astype(np.uint8), affine)
