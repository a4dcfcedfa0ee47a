"""Volumes: read them safely, resample them to a grid, and bring results back to the native grid unharmed.

Resampling is scipy's spline interpolation: 256^3 to 2 mm takes it 0.17 s on 2 cores, and at equal numbers
MONAI's `SpatialResample` (float64) 0.61 s, nilearn's `resample_img` 0.33 s. A test holds it equal to MONAI's.
"""

import os
import zlib
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from scipy import ndimage

from study_lib.grid import Grid, is_usable_affine
from study_lib.shapes import Affine, Volume

Interpolation = Literal["nearest", "linear", "cubic"]
Antialias = Literal["gaussian", "none"]
SPLINE_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}

__all__ = ["Grid", "VolumeError", "as_volume", "image_like", "load_volume", "resample", "to_native", "to_ras"]


class VolumeError(ValueError):
    """An image that cannot be used as a 3D volume; the message names the file and the fix."""


def load_volume(path: str | Path) -> Nifti1Image:
    """Read a 3D image as float32, scaling applied, held in memory (the file may go away afterwards)."""
    path = Path(path)
    _check_file(path)
    try:
        return as_volume(nibabel.load(path), name=str(path))
    except (ImageFileError, EOFError, OSError, zlib.error) as error:
        raise VolumeError(
            f"{path}: cannot be read as an image ({error}); it is truncated or no NIfTI: fetch it again"
        ) from error


def as_volume(image: Nifti1Image, name: str = "") -> Nifti1Image:
    """The same for an image at hand, which is not changed: 3D, finite, float32, affine and codes kept."""
    name = name or image_name(image)
    shape = image.shape
    if len(shape) < 3 or min(shape) < 1 or any(n != 1 for n in shape[3:]):
        raise VolumeError(
            f"{name}: expected a 3D volume, got shape {shape}; for BOLD or diffusion take one volume or "
            "the mean (nilearn.image.index_img, mean_img), or name it as bold in the manifest"
        )
    if not is_usable_affine(image.affine):
        raise VolumeError(
            f"{name}: the affine is zero, singular or not finite: {np.asarray(image.affine).tolist()}; "
            "convert the scan again (dcm2niix), or restore the affine from its source"
        )
    volume = image_like(_finite_values(image, name), image)
    if image.get_filename():
        volume.set_filename(image.get_filename())  # later messages name the file
    return volume


def image_name(image: Nifti1Image) -> str:
    """What to call an image in a message: its file, where it has one."""
    return str(image.get_filename() or "image in memory")


def to_ras(image: Nifti1Image) -> Nifti1Image:
    """The image with its axes flipped and swapped to run right, anterior, superior; no interpolation."""
    return nibabel.as_closest_canonical(image)


def resample(
    image: Nifti1Image,
    grid: Grid,
    interpolation: Interpolation = "linear",
    antialias: Antialias = "gaussian",
) -> Nifti1Image:
    """The image on `grid`, 0 outside its field of view.

    Masks and labels: `nearest`, which keeps their dtype and invents no label (ties go to the higher index).
    `gaussian` blurs before a coarser grid is sampled, along the axes that need it, so that the footprint
    of a source voxel becomes that of the new one (Cardoso et al. 2015); `none` is what MONAI, nilearn and
    SPM do. A finer grid is never blurred.
    """
    _check_choice("interpolation", interpolation, SPLINE_ORDER)
    _check_choice("antialias", antialias, ("gaussian", "none"))
    source = to_ras(image)  # then voxel axes match, and an upright scan takes scipy's separable path
    # to a billionth of a voxel: the inverse's noise must not push a voxel centre over a tie or an edge
    matrix = np.round(np.linalg.inv(source.affine) @ grid.affine, 9)
    values = np.asarray(source.dataobj)
    if interpolation != "nearest":
        values = values.astype(np.float32, copy=False)
        values = _blurred(values, matrix) if antialias == "gaussian" else values
    return Nifti1Image(_sampled(values, matrix, grid.shape, SPLINE_ORDER[interpolation]), grid.affine)


def to_native(
    volume: np.ndarray, grid: Grid, like: Nifti1Image, interpolation: Interpolation = "linear"
) -> Nifti1Image:
    """A volume on `grid` as float32 in the voxels of `like`: its shape, affine, codes, zooms and units."""
    if tuple(volume.shape) != grid.shape:
        raise ValueError(f"to_native: the volume has shape {volume.shape}, the grid {grid.shape}; give its own")
    on_grid = Nifti1Image(np.asarray(volume, dtype=np.float32), grid.affine)
    native = resample(on_grid, Grid.of(like), interpolation)
    return image_like(np.asarray(native.dataobj).reshape(like.shape), like)


def image_like(volume: np.ndarray, like: Nifti1Image) -> Nifti1Image:
    """A float32 image of `volume` with the geometry of `like`, bit for bit, and none of its value scaling."""
    if tuple(volume.shape) not in (tuple(like.shape), tuple(like.shape[:3])):
        raise ValueError(f"image_like: expected the shape of `like`, {like.shape}, got {volume.shape}")
    kind = type(like) if isinstance(like, Nifti1Pair) else Nifti1Image
    header = kind.header_class.from_header(like.header)
    header.set_data_dtype(np.float32)  # nibabel then drops the slope and intercept of the integers
    header["cal_min"] = header["cal_max"] = 0  # a display window of the old values would mislead viewers
    return kind(np.asarray(volume, dtype=np.float32), like.affine, header)


def _sampled(values: np.ndarray, matrix: Affine, shape: tuple[int, int, int], order: int) -> np.ndarray:
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    diagonal = np.diag(linear).copy()
    upright = not np.count_nonzero(linear - np.diag(diagonal))
    # grid-constant fades to 0 within a voxel of the edge; "constant" would drop centres on the very edge
    return ndimage.affine_transform(
        values, diagonal if upright else linear, offset, shape, order=order, mode="grid-constant"
    )


def _blurred(values: Volume, matrix: Affine) -> Volume:
    """Blur that turns the footprint of a source voxel into that of a coarser target voxel, axis by axis."""
    # row norms: how many source voxels one target voxel spans along each source axis (1 for a mere rotation)
    factor = np.sqrt((matrix[:3, :3] ** 2).sum(axis=1))
    variance = np.clip(factor**2 - 1, 0, None) / (8 * np.log(2))
    variance[variance < 1e-6] = 0  # zooms in float32 headers differ by noise: no blur for that
    return ndimage.gaussian_filter(values, np.sqrt(variance), mode="constant") if variance.any() else values


def _finite_values(image: Nifti1Image, name: str) -> Volume:
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise VolumeError(f"{name}: expected one real number per voxel, got {dtype}; convert it to grey values")
    values = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    # a finite sum proves every voxel finite, and costs less than looking at each
    if not np.isfinite(values.sum(dtype=np.float64)):
        bad = int(values.size - np.isfinite(values).sum())
        raise VolumeError(
            f"{name}: {bad} of {values.size} voxels are NaN or infinite; set a masked-out background to 0 "
            "(numpy.nan_to_num), or rebuild the image if they lie in the head"
        )
    return values


def _check_choice(what: str, choice: str, known: object) -> None:
    if choice not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}, got {choice!r}")


def _check_file(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(
            f"{path}: the link points to {os.readlink(path)}, which is absent; datalad get, or git annex get"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image; check the path and the data root")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path}: the file is empty (0 bytes); fetch or convert it again")
