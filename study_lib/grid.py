"""A voxel grid in space: a shape and the affine that takes voxel indices to RAS millimetres."""

from dataclasses import dataclass
from typing import Self

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Image

# Voxel centres of the MNI152 template; at 2 mm they give its usual 91 x 109 x 91 grid.
MNI_LOW_MM = (-90.0, -126.0, -72.0)
MNI_HIGH_MM = (90.0, 90.0, 108.0)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: `affine` (4 x 4, read-only) maps index (i, j, k) to RAS millimetres."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"Grid: expected three positive sizes, got shape {self.shape}")
        if not is_usable_affine(affine):
            raise ValueError(f"Grid: expected an invertible, finite 4 x 4 affine, got {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return self.shape, tuple((self.affine + 0.0).ravel().tolist())  # + 0.0 makes -0.0 equal 0.0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The voxel sizes along the three axes."""
        return tuple(float(size) for size in voxel_sizes(self.affine))

    @classmethod
    def isotropic(
        cls,
        spacing_mm: float,
        low_mm: tuple[float, float, float] = MNI_LOW_MM,
        high_mm: tuple[float, float, float] = MNI_HIGH_MM,
    ) -> Self:
        """A RAS grid from voxel centre `low_mm` to the first centre at or past `high_mm` (default: MNI)."""
        low, high = np.asarray(low_mm, dtype=float), np.asarray(high_mm, dtype=float)
        if spacing_mm <= 0 or (high < low).any():
            raise ValueError(f"Grid: expected spacing > 0 and low <= high, got {spacing_mm}, {low_mm}, {high_mm}")
        # 1e-6 of a voxel: 180 mm / 0.9 mm is 200 steps, whatever the rounding of 0.9
        shape = np.ceil((high - low) / spacing_mm - 1e-6).astype(int) + 1
        return cls(tuple(shape), _ras_affine(spacing_mm, low))

    @classmethod
    def of(cls, image: Nifti1Image) -> Self:
        """The grid an image lies on."""
        return cls(image.shape[:3], image.affine)

    @classmethod
    def covering(cls, image: Nifti1Image, spacing_mm: float, margin_mm: float = 0.0) -> Self:
        """An isotropic RAS grid that holds the nonzero voxels of `image` (best: of its brain mask)."""
        low, high = _bounds_mm(image)
        return cls.isotropic(spacing_mm, low - margin_mm, high + margin_mm)

    @classmethod
    def around(cls, image: Nifti1Image, spacing_mm: float, shape: tuple[int, int, int]) -> Self:
        """An isotropic RAS grid of a fixed shape, centred on the nonzero voxels of `image`."""
        low, high = _bounds_mm(image)
        extent = (np.asarray(shape) - 1) * spacing_mm
        return cls(shape, _ras_affine(spacing_mm, (low + high - extent) / 2))


def is_usable_affine(affine: np.ndarray) -> bool:
    """Whether an affine is 4 x 4, finite and invertible."""
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    sizes = voxel_sizes(affine)
    # relative to the voxel size, so that micrometre grids pass and collapsed axes do not
    return bool(sizes.min() > 0 and abs(np.linalg.det(affine[:3, :3])) > 1e-6 * sizes.prod())


def _ras_affine(spacing_mm: float, origin_mm: np.ndarray) -> np.ndarray:
    return nibabel.affines.from_matvec(np.eye(3) * spacing_mm, origin_mm)


def _bounds_mm(image: Nifti1Image) -> tuple[np.ndarray, np.ndarray]:
    """The box, in RAS millimetres, of the centres of an image's nonzero voxels."""
    inside = np.asarray(image.dataobj) != 0
    if not inside.any():
        raise ValueError("Grid: the image is zero everywhere, so it has no extent; give a brain mask or a volume")
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    corners = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
    corners_mm = apply_affine(image.affine, corners)
    return corners_mm.min(axis=0), corners_mm.max(axis=0)
