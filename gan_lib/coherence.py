"""Do the slices of a volume fit together? Jitter, sharpness and what else shows flicker or blur along z.

All take volumes (x, y, z) with axial slices along z. Differences count only where both voxels lie in the mask, so the
brain's border is no edge. Jitter falls when slices are blurred into each other, sharpness shows that: read both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import ndimage

from gan_lib.similarity import METRICS, SMALLEST_SHARE, brain_slices, in_slices
from study_lib.shapes import Mask, Volume

# Voxels at the mask's border are half something else, in a rhythm of the scanner's own slices: on the phantom at 2 mm,
# the same scan inside another site's mask of the same head jitters 0.6 to 3.2 times as much, without three voxels of
# border 0.97 to 1.03 times.
BORDER_VOXELS = 3
REFORMATS = {"sagittal": 0, "coronal": 1}


@dataclass(frozen=True)
class Sharpness:
    """Mean gradient magnitude inside the mask, in intensity per voxel: between slices, and within them."""

    through_plane: float
    in_plane: float

    @property
    def value(self) -> float:
        """The mean of both."""
        return (self.through_plane + self.in_plane) / 2


def slice_means(volume: Volume, mask: Mask, border_voxels: int = BORDER_VOXELS) -> Float[np.ndarray, "slice"]:
    """The mean intensity of every slice that `brain_slices` keeps of the mask without its border."""
    _check(volume, mask)
    inner = without_border(mask, border_voxels)
    kept = brain_slices(inner)
    inner = inner[:, :, kept]
    return np.where(inner, volume[:, :, kept], 0).sum((0, 1), dtype=np.float64) / inner.sum((0, 1))


def slice_jitter(volume: Volume, mask: Mask, border_voxels: int = BORDER_VOXELS) -> float:
    """Standard deviation over slices of the second difference of the masked slice mean, over the mean brain intensity.

    The slice means are those of `slice_means`; `border_voxels=0` takes the mask as it is. A second difference needs
    three neighbouring slices, so the first and the last that are kept have none.
    """
    means = slice_means(volume, mask, border_voxels)
    if len(means) < 4:
        raise ValueError(
            f"slice_jitter: expected at least 4 neighbouring slices with {SMALLEST_SHARE:.0%} of the largest slice's "
            f"brain, got {len(means)}; give the whole brain, on a finer grid"
        )
    overall = float(volume[mask].mean(dtype=np.float64))
    if overall <= 0:
        raise ValueError(
            f"slice_jitter: the mean brain intensity is {overall:g}, expected units in which it is above 0"
        )
    return float(np.diff(means, 2).std() / overall)


def sharpness(volume: Volume, mask: Mask) -> Sharpness:
    """Mean of |dz| between slices, and of sqrt(dx^2 + dy^2) within them, by differences to the next voxel."""
    _check(volume, mask)
    through, at = _steps(volume, mask, 2)
    x, y = (_steps(volume, mask, axis) for axis in (0, 1))
    in_plane = np.hypot(x[0][:, :-1], y[0][:-1])[x[1][:, :-1] & y[1][:-1]]
    return Sharpness(_mean(np.abs(through[at])), _mean(in_plane))


def through_plane_error(volume: Volume, source: Volume, mask: Mask) -> float:
    """sum |dz G - a dz X| / sum |dz X| inside the mask; the gain `a` is the least-squares one, so contrast is free.

    0 where every step between slices is the source's times one number, and that may be 0: a constant stack has no
    error either, so sharpness must be read beside it.
    """
    _check(volume, mask)
    _check(source, mask)
    steps, at = _steps(volume, mask, 2)
    original = _steps(source, mask, 2)[0][at].astype(np.float64)
    translated = steps[at].astype(np.float64)
    energy = float(original @ original)
    if energy == 0:
        raise ValueError("through_plane_error: the source does not change between slices; give a volume that does")
    gain = float(translated @ original) / energy
    return float(np.abs(translated - gain * original).sum() / np.abs(original).sum())


def variation_ratio(volume: Volume, mask: Mask) -> float:
    """Total variation between slices over that within them (mean of x and y); to be read beside the target's own."""
    _check(volume, mask)
    x, y, z = (_mean(np.abs(steps[at])) for steps, at in (_steps(volume, mask, axis) for axis in range(3)))
    if x + y == 0:
        raise ValueError("variation_ratio: the slices are constant inside the mask; check what made them")
    return float(2 * z / (x + y))


def reformat_ssim(volume: Volume, reference: Volume, mask: Mask, plane: str = "coronal", step: int = 1) -> float:
    """Mean SSIM of every `step`-th slice of another plane: flicker between axial slices shows there as stripes."""
    if plane not in REFORMATS:
        raise ValueError(f"reformat_ssim: expected plane {' or '.join(REFORMATS)}, got {plane!r}")
    turned = (np.moveaxis(array, REFORMATS[plane], -1) for array in (volume, reference, mask))
    return in_slices(METRICS["ssim"], step).function(*turned)


def without_border(mask: Mask, voxels: int) -> Mask:
    """The mask without what lies within so many steps, from voxel to neighbouring voxel, of its outside."""
    if voxels < 0:
        raise ValueError(f"border_voxels: expected 0 or more, got {voxels}")
    inner = ndimage.binary_erosion(mask, iterations=voxels) if voxels else np.asarray(mask)
    if not inner.any():
        raise ValueError(
            f"nothing is left of the mask without a border of {voxels} voxels; give the brain, or a finer grid"
        )
    return inner


def coherence_table(groups: Mapping[str, Iterable[tuple[str, Volume, Mask]]]) -> pd.DataFrame:
    """One row per volume: group (source, target, after, …), subject, and the numbers that need no reference."""
    rows = []
    for group, volumes in groups.items():
        for subject, volume, mask in volumes:
            edges = sharpness(volume, mask)
            rows.append(
                {
                    "group": group,
                    "subject": subject,
                    "slice_jitter": slice_jitter(volume, mask),
                    "sharpness": edges.value,
                    "sharpness_through_plane": edges.through_plane,
                    "sharpness_in_plane": edges.in_plane,
                    "variation_ratio": variation_ratio(volume, mask),
                }
            )
    return pd.DataFrame(rows)


def coherence_metrics(table: pd.DataFrame) -> dict[str, float]:
    """`slice_jitter_<group>`, `sharpness_<group>` and so on: means over the volumes of each group."""
    means = table.drop(columns="subject").groupby("group", sort=False).mean()
    return {f"{name}_{group}": float(value) for group, row in means.iterrows() for name, value in row.items()}


def _steps(volume: Volume, mask: Mask, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the next voxel along an axis, and where both voxels are brain."""
    front = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
    back = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
    return volume[front] - volume[back], mask[front] & mask[back]


def _mean(values: np.ndarray) -> float:
    if values.size == 0:
        raise ValueError("no two neighbouring voxels lie in the mask; give the subject's brain mask")
    return float(values.mean(dtype=np.float64))


def _check(volume: Volume, mask: Mask) -> None:
    if volume.shape != mask.shape or volume.ndim != 3:
        raise ValueError(f"expected a volume (x, y, z) and its mask, got shapes {volume.shape} and {mask.shape}")
    if not mask.any():
        raise ValueError("the mask is empty; give the subject's brain mask")
