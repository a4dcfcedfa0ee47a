"""Cortical radius per hemisphere and region: volume of the cortex over the area of its middle surface."""

from dataclasses import dataclass

import nibabel
import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from gan_lib.cortex.labels import LabelError, Points, TissueLabels
from gan_lib.cortex.surface import Surface, cortical_ribbon
from gan_lib.cortex.thickness import laplace_thickness
from study_lib.grid import Grid
from study_lib.volume import resample

HEMISPHERES = ("left", "right")
LEAST_AREA_MM2 = 50.0  # a region with less of the middle surface has no radius


@dataclass(frozen=True)
class RadiusConfig:
    """`midline_mm`: x of the plane between the hemispheres, in the image's own RAS millimetres."""

    midline_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class CorticalRadius:
    """In mm: `left` and `right` are volume over area, `map_means` the mean of `map`, the thickness along streamlines.

    `regions` has a row per label of the atlas that was given: radius_mm, map_mm, area_mm2 (NaN where it has no cortex).
    """

    left: float
    right: float
    map: Nifti1Image
    map_means: dict[str, float]
    regions: pd.DataFrame | None = None

    @property
    def hemispheres(self) -> dict[str, float]:
        """The two radii by name."""
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True, eq=False)
class _Ribbon:
    """What a measurement needs of the labels, made once."""

    labels: TissueLabels
    cortex: np.ndarray
    surface: Surface

    @classmethod
    def of(cls, image: Nifti1Image) -> "_Ribbon":
        labels = TissueLabels.of(image)
        cortex, surface = cortical_ribbon(labels)
        if not cortex.any():
            raise LabelError(f"{labels.name}: no grey matter is as thin as cortex; check labels and voxel sizes")
        return cls(labels, cortex, surface)

    @property
    def voxels(self) -> Points:
        return np.argwhere(self.cortex).astype(float)

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.labels.affine[:3, :3])))


def cortical_radius(
    label_image: Nifti1Image, atlas: Nifti1Image | None = None, config: RadiusConfig | None = None
) -> CorticalRadius:
    """Radius of both hemispheres and the map, from 0 background and fluid, 1 grey, 2 white; in any orientation.

    `atlas`: a label image in the same space, on any grid; every label gets its own radius.
    """
    ribbon = _Ribbon.of(label_image)
    sides, shares = _hemispheres(ribbon, config or RadiusConfig())
    thickness = laplace_thickness(ribbon.labels, ribbon.cortex)
    own = thickness[ribbon.cortex]
    means = {
        side: float(np.average(own, weights=share * (own > 0) + 1e-12))
        for side, share in zip(sides, shares, strict=True)
    }
    regions = None if atlas is None else _regions(ribbon, atlas, own)
    return CorticalRadius(*sides.values(), _map_image(ribbon, thickness, label_image), means, regions)


def hemisphere_radius(label_image: Nifti1Image, config: RadiusConfig | None = None) -> dict[str, float]:
    """The same radii alone, in a third of the time."""
    return _hemispheres(_Ribbon.of(label_image), config or RadiusConfig())[0]


def regional_radius(label_image: Nifti1Image, atlas: Nifti1Image) -> pd.Series:
    """The radius of every label of an atlas, without the map; NaN where the region has no cortex."""
    return _regions(_Ribbon.of(label_image), atlas, None)["radius_mm"]


def _hemispheres(ribbon: _Ribbon, config: RadiusConfig) -> tuple[dict[str, float], list[np.ndarray]]:
    labels, midline = ribbon.labels, config.midline_mm
    left = labels.left_share(ribbon.voxels, midline)
    on_left = labels.world(ribbon.surface.centres)[:, 0] < midline
    radii, shares = {}, [left, 1 - left]
    for side, share, faces in zip(HEMISPHERES, shares, (on_left, ~on_left), strict=True):
        area = ribbon.surface.areas[faces].sum()
        if share.sum() < 1 or area <= 0:
            raise LabelError(
                f"{labels.name}: the {side} hemisphere has no cortex; hemispheres are parted at x = {midline:g} mm of "
                "the affine: give midline_mm where the brain lies elsewhere, or labels of a whole brain"
            )
        radii[side] = float(share.sum() * ribbon.voxel_mm3 / area)
    return radii, shares


def _regions(ribbon: _Ribbon, atlas: Nifti1Image, thickness: np.ndarray | None) -> pd.DataFrame:
    numbers = _region_numbers(ribbon, atlas)
    present = np.unique(np.asarray(atlas.dataobj)).astype(int)
    size = int(present.max()) + 1
    of_voxel = numbers[ribbon.cortex]
    nodes = np.rint(ribbon.surface.centres).astype(int)
    volume = ribbon.voxel_mm3 * np.bincount(of_voxel, minlength=size)
    area = np.bincount(numbers[tuple(nodes.T)], ribbon.surface.areas, minlength=size)
    enough = area >= LEAST_AREA_MM2
    table = {"radius_mm": np.divide(volume, area, out=np.full(size, np.nan), where=enough), "area_mm2": area}
    if thickness is not None:
        count = np.bincount(of_voxel, thickness > 0, minlength=size)
        total = np.bincount(of_voxel, thickness, minlength=size)
        table["map_mm"] = np.divide(total, count, out=np.full(size, np.nan), where=enough & (count > 0))
    index = pd.Index(present[present > 0], name="region")
    return pd.DataFrame(table).reindex(index)


def _region_numbers(ribbon: _Ribbon, atlas: Nifti1Image) -> np.ndarray:
    """The region of every voxel: that of the nearest voxel that has one, since a folded cortex leaves the atlas's."""
    values = np.asanyarray(atlas.dataobj)
    if values.ndim != 3 or (values != np.rint(values)).any() or values.min() < 0 or not (values > 0).any():
        raise LabelError(
            f"atlas: expected a 3D image of whole numbers, 0 for no region, got shape {values.shape}, {values.dtype}"
        )
    atlas = nibabel.Nifti1Image(values.astype(np.int32), atlas.affine)
    grid = Grid(ribbon.labels.tissues.shape, ribbon.labels.affine)
    numbers = np.asarray(resample(atlas, grid, "nearest").dataobj)
    if not (numbers > 0).any():
        raise LabelError("atlas: it does not overlap the labels; bring it to their space first")
    nearest = ndimage.distance_transform_edt(numbers == 0, ribbon.labels.spacing_mm, False, True)
    return numbers[tuple(nearest)]


def _map_image(ribbon: _Ribbon, thickness: np.ndarray, like: Nifti1Image) -> Nifti1Image:
    """The map in the voxels of the labels that were given."""
    cropped = nibabel.Nifti1Image(thickness.astype(np.float32), ribbon.labels.affine)
    own = resample(cropped, Grid(like.shape[:3], like.affine), "nearest")
    image = nibabel.Nifti1Image(np.asarray(own.dataobj, np.float32), like.affine)
    image.header.set_xyzt_units("mm")
    return image
