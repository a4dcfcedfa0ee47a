"""Which voxels are brain: a given mask, or what is left of a stripped image; a head is refused."""

from itertools import takewhile
from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from study_lib.shapes import Mask, Volume
from study_lib.volume import VolumeError, as_volume, image_name, load_volume, to_ras

# The largest brains hold about 2.0 litres inside the skull; an adult head, cut at the chin, at least 2.7.
LARGEST_BRAIN_ML = 2400.0
# A stripped brain may touch a tight field of view (2 to 8 % of its border); unstripped noise fills all of it.
LARGEST_BORDER_SHARE = 0.2
# Skull and its dark cortical bone lie 5 to 18 mm under the scalp of the upper head (neck and face left out).
UPPER_HEAD_MM, SKULL_DEPTH_MM, BRAIN_DEPTH_MM = 70.0, (5.0, 18.0), 30.0
# Darkest shell over the brighter ones around it: 0.2 to 0.55 in heads; 1 in brains, which brighten inwards.
DARK_RING = 0.7
SMALLEST_SHELL_VOXELS = 50
COARSE_MM = 3.0
# Shares of the bright end that count as background: the ripples of interpolation; the haze around a head.
RIPPLE_SHARE, HAZE_SHARE = 1e-3, 0.02


def brain_mask(image: Nifti1Image, mask: Nifti1Image | str | Path | None = None) -> Nifti1Image:
    """A 0/1 image (uint8) on the grid of `image`: the given mask, else the voxels of a stripped brain.

    Without a mask, a head is refused: skull and scalp would enter every statistic.
    """
    if mask is not None:
        return _given_mask(image, mask)
    volume = as_volume(image)
    foreground = _foreground(np.asarray(volume.dataobj), RIPPLE_SHARE)
    if not foreground.any():
        raise VolumeError(f"{image_name(image)}: no brain found, the volume is constant; check the file")
    evidence = skull_evidence(volume)
    if evidence:
        raise VolumeError(
            f"{image_name(image)}: looks like a head with skull, not a stripped brain "
            f"({'; '.join(evidence)}); give its brain mask (fMRIPrep: *_desc-brain_mask.nii.gz), "
            "or strip the skull first (SynthStrip, HD-BET)"
        )
    return _mask_image(_without_holes(foreground), image)


def mask_array(mask: Nifti1Image) -> Mask:
    """The voxels of a 0/1 image as booleans."""
    return np.asarray(mask.dataobj) > 0


def skull_evidence(volume: Nifti1Image) -> list[str]:
    """Reasons to believe that the foreground of `volume` is a head; empty for a brain."""
    evidence = []
    border = _border_share(_foreground(np.asarray(volume.dataobj), RIPPLE_SHARE))
    if border > LARGEST_BORDER_SHARE:
        evidence.append(f"{border:.0%} of the image border is not background, expected under 20 %")
    values, inside, sizes_mm = _coarse_foreground(volume)
    millilitres = inside.sum() * sizes_mm.prod() / 1000
    if millilitres > LARGEST_BRAIN_ML:
        evidence.append(f"the foreground holds {millilitres:.0f} mL, a brain at most {LARGEST_BRAIN_ML:.0f}")
    ring = dark_ring(values, inside, sizes_mm)
    if ring < DARK_RING:
        evidence.append(f"a dark ring like bone lies under the surface (ratio {ring:.2f}, not over {DARK_RING})")
    return evidence


def dark_ring(values: Volume, inside: Mask, sizes_mm: np.ndarray) -> float:
    """Brightness of the darkest shell 5 to 18 mm deep over the brighter ones on both sides (RAS arrays)."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=sizes_mm)[1:-1, 1:-1, 1:-1]
    top = np.flatnonzero(inside.any(axis=(0, 1))).max(initial=0)
    upper = inside.copy()
    upper[:, :, : max(0, int(top - UPPER_HEAD_MM / sizes_mm[2]))] = False
    width = max(2.0, 1.05 * float(max(sizes_mm)))
    profile = _depth_profile(values[upper], depth[upper], width)
    middle = (np.arange(len(profile)) + 0.5) * width
    ratios = [1.0]
    for k in np.flatnonzero((middle >= SKULL_DEPTH_MM[0]) & (middle <= SKULL_DEPTH_MM[1])):
        brighter = min(profile[:k].max(initial=0), profile[k + 1 :].max(initial=0))
        ratios.append(profile[k] / brighter if brighter > 0 else 1.0)
    return float(min(ratios))


def _depth_profile(values: np.ndarray, depth: np.ndarray, width: float) -> np.ndarray:
    """Median brightness of shells from the surface inwards, above the darkest per cent of the voxels."""
    starts = np.arange(0, BRAIN_DEPTH_MM, width)
    shells = (values[(depth > start) & (depth <= start + width)] for start in starts)
    medians = [np.median(s) for s in takewhile(lambda s: s.size >= SMALLEST_SHELL_VOXELS, shells)]
    # the darkest per cent is air or CSF: a zero that also holds on scales with negative values
    return np.array(medians) - np.percentile(values, 1) if medians else np.empty(0)


def _coarse_foreground(volume: Nifti1Image) -> tuple[Volume, Mask, np.ndarray]:
    """Every n-th voxel in RAS order (about 3 mm apart), its foreground without holes, and the voxel sizes."""
    volume = to_ras(volume)
    step = np.maximum(1, np.round(COARSE_MM / voxel_sizes(volume.affine)).astype(int))
    values = np.asarray(volume.dataobj)[tuple(slice(None, None, n) for n in step)]
    return values, _without_holes(_foreground(values, HAZE_SHARE)), voxel_sizes(volume.affine) * step


def _given_mask(image: Nifti1Image, mask: Nifti1Image | str | Path) -> Nifti1Image:
    mask = load_volume(mask) if isinstance(mask, str | Path) else as_volume(mask)
    if mask.shape != image.shape[:3] or not np.allclose(mask.affine, image.affine, atol=1e-3):
        raise VolumeError(
            f"{image_name(mask)}: the mask lies on another grid than {image_name(image)}: "
            f"shape {mask.shape} against {image.shape[:3]}, affine {mask.affine.tolist()} against "
            f"{image.affine.tolist()}; study_lib.volume.resample(mask, Grid.of(image), 'nearest') moves it"
        )
    inside = np.asarray(mask.dataobj) > 0.5  # 0/1, 0/255 and probabilities alike
    if not inside.any():
        raise VolumeError(f"{image_name(mask)}: the mask is empty (nothing above 0.5); give the right one")
    return _mask_image(inside, image)


def _mask_image(inside: Mask, image: Nifti1Image) -> Nifti1Image:
    header = nibabel.Nifti1Header.from_header(image.header)
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0
    return Nifti1Image(inside.astype(np.uint8), image.affine, header)


def _foreground(values: Volume, share: float) -> Mask:
    """Voxels that are not background: above a share of the bright end."""
    magnitude = np.abs(values)
    bright = magnitude[magnitude > 0]
    if bright.size == 0 or np.ptp(values) == 0:
        return np.zeros(values.shape, dtype=bool)
    return magnitude > share * np.percentile(bright, 99)


def _without_holes(inside: Mask) -> Mask:
    """Fill what the border cannot reach: scipy's `binary_fill_holes` by one labelling, not by dilations."""
    background, _ = ndimage.label(np.pad(~inside, 1, constant_values=True))
    return (background != background[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _border_share(inside: Mask) -> float:
    border = np.ones(inside.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    return float(inside[border].mean())
