"""The cortex between white matter and fluid, and the surface in its middle."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from skimage.measure import marching_cubes

from gan_lib.cortex.labels import OTHER, WHITE, Points, TissueLabels

# Human cortex is 1 to 4.5 mm thick (Fischl and Dale 2000, PNAS 97:11050). Grey matter wider than this, measured
# straight from white matter to fluid, is a nucleus or the core of the cerebellum, which has no radius.
THICKEST_MM = 6.0
# Staircase of voxels: enough blur that a sphere's area is right to 1 %, too little to shrink it (tests hold this).
SMOOTHING_VOXELS = 0.7
# A face of the middle surface belongs to cortex where blurred (1 voxel) cortex exceeds this: at a border of white
# matter and fluid it is 0, in the middle of a ribbon that is narrower than a voxel still 0.3.
LEAST_CORTEX = 0.2
FAR_MM = 8.0


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles in voxel coordinates, and the area of each in mm2."""

    vertices: Points
    faces: Int[np.ndarray, "face 3"]
    areas: Float[np.ndarray, " face"]

    @property
    def centres(self) -> Points:
        """The middle of every face."""
        return self.vertices[self.faces].mean(axis=1)


def cortical_ribbon(labels: TissueLabels) -> tuple[Bool[np.ndarray, "x y z"], Surface]:
    """Grey matter that is thin enough to be cortex, and the surface in its middle."""
    to_white, to_fluid = (
        ndimage.distance_transform_edt(labels.tissues != tissue, sampling=labels.spacing_mm)
        for tissue in (WHITE, OTHER)
    )
    # both distances end at voxel centres, each half a voxel beyond the border
    width = to_white + to_fluid - np.cbrt(np.prod(labels.spacing_mm))
    cortex = labels.grey & (width <= THICKEST_MM)
    return cortex, _middle_surface(labels, cortex, np.clip(to_white, 0, FAR_MM) - np.clip(to_fluid, 0, FAR_MM))


def _middle_surface(labels: TissueLabels, cortex: np.ndarray, difference: np.ndarray) -> Surface:
    """Where white matter and fluid are equally far, as far as it lies in cortex."""
    level = ndimage.gaussian_filter(difference.astype(np.float32), SMOOTHING_VOXELS)
    vertices, faces, _, _ = marching_cubes(level, 0.0)
    corners = labels.world(vertices)[faces]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    nearby = ndimage.gaussian_filter(cortex.astype(np.float32), 1.0)
    inside = ndimage.map_coordinates(nearby, vertices[faces].mean(axis=1).T, order=1) > LEAST_CORTEX
    return Surface(vertices, faces[inside], 0.5 * np.linalg.norm(sides[inside], axis=1))
