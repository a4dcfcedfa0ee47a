"""A scan of any grid on the model's grid, and what was made there back on the scan's own grid, its detail kept."""

from dataclasses import dataclass, replace
from typing import Literal

import nibabel
import numpy as np
from jaxtyping import Float, Int
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from gan_lib.slices import PLANES, SliceBox
from study_lib.brain_mask import brain_mask, mask_array
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.shapes import Mask, Volume
from study_lib.volume import VolumeError, as_volume, image_name, resample

Detail = Literal["native", "grid"]
LARGEST_BRAIN_MM = 300.0  # heads are 250 mm long at most: what is longer is no brain mask, or not in millimetres
# Window (standard deviation in voxels of the grid) in which contrast before and after is compared, and what pulls the
# ratio to 1 where a window holds no contrast, as variance in [0, 1] squared (a tissue boundary has about 0.02).
GAIN_WINDOW, GAIN_RIDGE, LARGEST_GAIN = 2.0, 3e-3, 2.0


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """One scan in a normaliser's units: on its own grid, and on the model's grid, which is extended to hold it."""

    native: Nifti1Image  # as given, scaling applied
    native_mask: Mask
    native_units: Volume
    grid: Grid
    mask: Mask
    units: Volume
    before: tuple[int, int, int]  # voxels that the grid was extended by at its low faces


def place(image: Nifti1Image, mask: Nifti1Image | None, grid: Grid, normaliser: Normaliser) -> PlacedScan:
    """Bring an image with its mask (or a stripped one) to the grid, as `study_lib.preparation` does for training.

    The voxels of the grid stay where they are; more are added where the brain goes past them. The statistics of the
    intensities are those on the grid, where the model was trained, for the native voxels as well.
    """
    native = as_volume(image)
    inside = brain_mask(native, mask)
    native_mask = mask_array(inside)
    grid, before = extended(grid, native_mask, native)
    on_grid = np.asarray(resample(_image(native_mask, native.affine), grid).dataobj) > 0.5
    if not on_grid.any():
        raise VolumeError(
            f"{image_name(native)}: the brain vanishes on the model's grid of {grid.spacing_mm} mm; check the affine "
            "(it must be in millimetres) and the mask"
        )
    head = np.asarray(resample(native, grid).dataobj, dtype=np.float32)
    units = normaliser.transform(head, on_grid, image_name(native))
    statistics = normaliser.statistics(head[on_grid])
    native_units = in_units(normaliser, np.asarray(native.dataobj), native_mask, statistics)
    return PlacedScan(native, native_mask, native_units, grid, on_grid, units, before)


def in_units(normaliser: Normaliser, volume: Volume, mask: Mask, statistics: dict[str, float]) -> Volume:
    """`normaliser.transform` with the statistics of another sampling of the same scan."""
    low, high = normaliser.learned.window if normaliser.needs_fit else (0.0, 1.0)
    units = np.zeros(volume.shape, dtype=np.float32)
    units[mask] = np.clip((normaliser.units(volume[mask], statistics) - low) / (high - low), 0, 1)
    return units


def extended(grid: Grid, native_mask: Mask, native: Nifti1Image) -> tuple[Grid, tuple[int, int, int]]:
    """The grid with as many voxels more as the brain needs, and how many of them lie before its first ones."""
    inside = apply_affine(np.linalg.inv(grid.affine) @ native.affine, outermost(native_mask))
    # to a millionth of a voxel: noise of the inverse is no reason for one more
    low, high = np.floor(inside.min(axis=0) + 1e-6).astype(int), np.ceil(inside.max(axis=0) - 1e-6).astype(int)
    length_mm = (high - low) * np.array(grid.spacing_mm)
    if length_mm.max() > LARGEST_BRAIN_MM:
        raise VolumeError(
            f"{image_name(native)}: the brain spans {np.round(length_mm).astype(int).tolist()} mm (x, y, z), expected "
            f"at most {LARGEST_BRAIN_MM:.0f}; check the mask, and that the affine is in millimetres"
        )
    before, after = np.maximum(0, -low), np.maximum(0, high + 1 - np.array(grid.shape))
    origin = apply_affine(grid.affine, -before)
    affine = nibabel.affines.from_matvec(grid.affine[:3, :3], origin)
    return Grid(tuple(grid.shape + before + after), affine), tuple(int(n) for n in before)


def outermost(mask: Mask) -> Int[np.ndarray, "voxel 3"]:
    """The first and the last voxel of every column of a mask along z: no voxel lies farther out in any direction."""
    x, y = np.nonzero(mask.any(axis=2))
    columns = mask[x, y]
    first, last = columns.argmax(axis=1), mask.shape[2] - 1 - columns[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([x, y, z], axis=1) for z in (first, last)])


def shifted(box: SliceBox, before: tuple[int, int, int], shape: tuple[int, int, int]) -> SliceBox:
    """The same place, counted on a grid that begins `before` voxels earlier."""
    low = tuple(low + before[axis] for low, axis in zip(box.low, PLANES[box.plane], strict=True))
    return replace(box, grid_shape=shape, low=low)


def to_native(scan: PlacedScan, after: Volume, detail: Detail = "native") -> Volume:
    """What became of `scan.units`, on the scan's own grid; 0 outside its mask.

    `grid` interpolates. `native` also gives back what the grid had lost of the scan, its fine detail, scaled by how
    much the change around it stretches contrast: out = up(after) + up(gain) * (native - up(before)). Where the scan
    lies on the grid nothing was lost, and both are `after` itself; where nothing changed, `native` is the scan itself.
    """
    check_detail(detail)
    nearest = ndimage.distance_transform_edt(~scan.mask, return_distances=False, return_indices=True)
    box = bounding_box(scan.native_mask)
    target = Grid.of(scan.native.slicer[box])

    def up(volume: Volume) -> Volume:
        # voxels off the brain take the nearest brain value, so that its rim is not mixed with background
        return np.asarray(resample(_image(volume[tuple(nearest)], scan.grid.affine), target).dataobj)

    result = up(after)
    if detail == "native":
        gain = up(local_gain(scan.units, after, scan.mask))
        result = result + gain * (scan.native_units[box] - up(scan.units))
    out = np.zeros(scan.native.shape, dtype=np.float32)
    out[box] = np.where(scan.native_mask[box], np.clip(result, 0, 1), 0)
    return out


def check_detail(detail: str) -> None:
    """Raise for anything but native and grid."""
    if detail not in ("native", "grid"):
        raise ValueError(f"detail: expected native or grid, got {detail!r}")


def local_gain(before: Volume, after: Volume, mask: Mask) -> Volume:
    """How much the change stretches contrast: the slope of `after` on `before` in a window around every voxel.

    This is the coefficient of a guided filter (He and Sun 2015), pulled to 1 instead of 0; within [0, LARGEST_GAIN].
    """
    weight = _window(mask.astype(np.float32)) + 1e-6
    mean_before, mean_after = (_window(np.where(mask, v, 0)) / weight for v in (before, after))
    variance = _window(np.where(mask, before * before, 0)) / weight - mean_before * mean_before
    covariance = _window(np.where(mask, before * after, 0)) / weight - mean_before * mean_after
    # rounding leaves variance above -1e-6, far less than the ridge; cutting it off would make an identity inexact
    return np.clip((covariance + GAIN_RIDGE) / (variance + GAIN_RIDGE), 0, LARGEST_GAIN)


def bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box that holds the voxels of a mask."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _window(volume: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    return ndimage.gaussian_filter(volume, GAIN_WINDOW, mode="constant")


def _image(volume: Int[np.ndarray, "x y z"] | Volume, affine: np.ndarray) -> Nifti1Image:
    return Nifti1Image(np.asarray(volume, dtype=np.float32), affine)
