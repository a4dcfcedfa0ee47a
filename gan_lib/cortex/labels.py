"""Tissue labels, checked and upright: 0 background and fluid, 1 grey, 2 white."""

from dataclasses import dataclass
from typing import Self

import nibabel
import numpy as np
from jaxtyping import Bool, Float, UInt8
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from study_lib.grid import is_usable_affine
from study_lib.shapes import Affine
from study_lib.volume import image_name, to_ras

OTHER, GREY, WHITE = 0, 1, 2
Labels = UInt8[np.ndarray, "x y z"]
Points = Float[np.ndarray, "point 3"]
MARGIN = 3  # voxels of background around the tissue: surfaces close inside the array


class LabelError(ValueError):
    """Labels from which no cortex can be measured; the message names the image and the fix."""


@dataclass(frozen=True, eq=False)
class TissueLabels:
    """Labels that run right, anterior, superior, cropped to the tissue and its margin."""

    tissues: Labels
    affine: Affine
    name: str

    @classmethod
    def of(cls, image: Nifti1Image) -> Self:
        """Checked labels of an image in any orientation."""
        name = image_name(image)
        values = _checked_values(image, name)
        upright = to_ras(nibabel.Nifti1Image(values, image.affine))
        values = np.asarray(upright.dataobj)
        (box,) = ndimage.find_objects((values > 0).astype(np.uint8))
        low = np.array([side.start for side in box]) - MARGIN
        affine = upright.affine.copy()
        affine[:3, 3] = apply_affine(upright.affine, low)
        return cls(np.pad(values[box], MARGIN), affine, name)

    @property
    def spacing_mm(self) -> np.ndarray:
        """The voxel sizes."""
        return voxel_sizes(self.affine)

    @property
    def grey(self) -> Bool[np.ndarray, "x y z"]:
        """Where grey matter is."""
        return self.tissues == GREY

    def world(self, points: Points) -> Points:
        """Voxel coordinates in RAS millimetres."""
        return apply_affine(self.affine, points)

    def left_share(self, points: Points, midline_mm: float) -> Float[np.ndarray, " point"]:
        """How much of a voxel centred at each point lies left of the sagittal plane at `midline_mm`."""
        width = np.abs(self.affine[0, :3]).max()
        return np.clip(0.5 - (self.world(points)[:, 0] - midline_mm) / width, 0, 1)


def _checked_values(image: Nifti1Image, name: str) -> Labels:
    values = np.asanyarray(image.dataobj)
    if values.ndim > 3 and all(n == 1 for n in values.shape[3:]):
        values = values.reshape(values.shape[:3])
    if values.ndim != 3:
        raise LabelError(f"{name}: expected a 3D label image, got shape {values.shape}; give one volume of labels")
    if not is_usable_affine(image.affine):
        raise LabelError(f"{name}: the affine is zero, singular or not finite, so left and right are not known")
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise LabelError(
            f"{name}: expected whole numbers (0 background and fluid, 1 grey, 2 white), got fractions or NaN; "
            "these may be tissue probabilities: give the label of the most probable tissue"
        )
    found = np.unique(values)
    if unknown := sorted(set(found.tolist()) - {OTHER, GREY, WHITE}):
        shown = ", ".join(f"{value:g}" for value in unknown[:8])
        raise LabelError(
            f"{name}: expected the labels 0 (background, fluid), 1 (grey) and 2 (white), got also {shown}; "
            "map them first (fMRIPrep's dseg: 1 grey, 2 white, 3 fluid, so 3 becomes 0)"
        )
    for label, tissue in ((GREY, "grey matter (1)"), (WHITE, "white matter (2)"), (OTHER, "background or fluid (0)")):
        if label not in found:
            raise LabelError(f"{name}: no voxel of {tissue}: without it the cortex has no borders; check the labels")
    return values.astype(np.uint8)
