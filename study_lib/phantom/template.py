"""The template head: distances and tissue shares on a 1 mm grid, from the MNI152 maps that ship inside nilearn.

Surfaces are kept as signed distances in mm (negative inside), because a voxel of any size can then be filled with the
right share of tissue without painting the head at a finer grid first.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn import datasets
from scipy import ndimage
from skimage.segmentation import watershed

LOWEST_CORNER_MM = (-88.0, -124.0, -72.0)
HIGHEST_CORNER_MM = (88.0, 90.0, 100.0)

# Seeds (x, y, z, radius in mm) that flood the tissue map from both sides of the tentorium; x is mirrored.
CEREBELLUM_SEEDS = (
    (22, -62, -38, 12),
    (0, -58, -30, 8),
    (0, -22, -32, 8),
    (0, -40, -55, 6),
    (0, -62, -12, 4),
)
CEREBRUM_SEEDS = (
    (26, 0, 30, 16), (30, -60, 20, 14), (14, -88, 0, 8), (50, -30, -10, 8), (40, -66, -8, 6), (40, 0, -30, 8),
    (34, -44, -14, 4), (14, -60, 2, 5), (25, -25, -16, 4),
)  # fmt: skip

WHITE_LEVEL = 0.32
"""Share of white matter at which the inner cortical surface lies: below one half, since averaging over 152 heads
has eaten the thin blades of white matter inside the gyri."""


@dataclass(frozen=True)
class Template:
    """Maps of one head on a 1 mm grid in MNI space (RAS)."""

    affine: np.ndarray
    white_distance: np.ndarray  # to the cerebrum's filled white matter (ventricles and deep grey matter included)
    ventricle_distance: np.ndarray
    brain_distance: np.ndarray  # to the hull of the brain
    deep_grey: np.ndarray  # share of deep grey matter inside the filled white matter
    hindbrain_grey: np.ndarray  # cerebellum and brain stem, as the template has them
    hindbrain_white: np.ndarray
    cortex: np.ndarray  # where the white surface carries cortex: 1, elsewhere 0, with a soft edge


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Build the template (about ten seconds, once in a process)."""
    grey, white, t1, affine = _cropped_maps()
    points = _coordinates(grey.shape, affine)
    brain = t1 > 0
    brain_distance = signed_distance(ndimage.binary_closing(brain, iterations=3) | brain)
    hindbrain = _hindbrain(grey + white, brain, points)
    ventricles = _ventricles((grey + white < 0.5) & ~hindbrain & (brain_distance < -18), points)
    ventricle_distance = signed_distance(ventricles)
    deep = _deep_grey(grey, hindbrain, points)
    filled = _filled_white(white, ventricles, deep, hindbrain)
    return Template(
        affine=affine,
        white_distance=signed_distance(filled),
        ventricle_distance=ventricle_distance,
        brain_distance=brain_distance,
        deep_grey=np.where(deep, grey, 0).astype(np.float32),
        hindbrain_grey=np.where(hindbrain, grey, 0).astype(np.float32),
        hindbrain_white=np.where(hindbrain, white, 0).astype(np.float32),
        cortex=_cortex((grey > 0.5) & ~deep & ~hindbrain, ventricle_distance),
    )


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the mask's smooth surface in voxels, negative inside, true to a few hundredths of a voxel in slope.

    A plain distance transform measures to voxel centres, which makes every shell some 5 % too thick. Here each voxel
    that lines the surface is first moved onto it, and distances are measured to where it landed.
    """
    lining = mask & ~ndimage.binary_erosion(mask)
    to_lining, nearest = ndimage.distance_transform_edt(~lining, return_indices=True)
    rough = np.where(mask, -to_lining - 0.5, to_lining - 0.5).astype(np.float32)
    rough = ndimage.gaussian_filter(rough, 0.7)
    gradient = np.gradient(rough)
    steepness = sum(g**2 for g in gradient) + 1e-6
    owner = np.ravel_multi_index(nearest, mask.shape).ravel()
    start = (rough / np.sqrt(steepness)).ravel()[owner]  # of the nearest lining voxel from the surface
    plane, square = start.copy(), np.zeros_like(start)
    for axis, g in zip(np.ix_(*(np.arange(n, dtype=np.float32) for n in mask.shape)), gradient, strict=True):
        position = np.broadcast_to(axis, mask.shape).ravel()
        normal = (g / np.sqrt(steepness)).ravel()[owner]
        way = position - position[owner]
        plane += normal * way
        square += (way + normal * start) ** 2
    # Where the surface bends, the way to its tangent plane is too short and the way to its foot too long.
    straight = np.where(mask.ravel(), -1, 1) * np.sqrt(square)
    weight = 0.5 * np.clip(np.abs(plane) - 0.5, 0, 1)
    return ((1 - weight) * plane + weight * straight).reshape(mask.shape).astype(np.float32)


def _cropped_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    images = [
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_template(resolution=1),
    ]
    affine = np.eye(4)
    affine[:3, 3] = LOWEST_CORNER_MM
    size = (np.asarray(HIGHEST_CORNER_MM) - LOWEST_CORNER_MM).astype(int) + 1
    return *(_crop(image, affine, size) for image in images), affine


def _crop(image, affine: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Cut or pad a 1 mm image to the template's box; both grids are whole millimetres apart."""
    start = np.rint(affine[:3, 3] - image.affine[:3, 3]).astype(int)
    data = np.asarray(image.dataobj, dtype=np.float32)
    result = np.zeros(size, np.float32)
    low = np.maximum(start, 0)
    high = np.minimum(start + size, data.shape)
    target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    result[target] = data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return result


def _coordinates(shape: tuple[int, ...], affine: np.ndarray) -> list[np.ndarray]:
    """World coordinates of every voxel, as three arrays that broadcast together."""
    axes = (np.arange(n, dtype=np.float32) + offset for n, offset in zip(shape, affine[:3, 3], strict=True))
    return list(np.ix_(*axes))


def _balls(seeds, points: list[np.ndarray]) -> np.ndarray:
    x, y, z = points
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), bool)
    for cx, cy, cz, radius in seeds:
        inside |= (np.abs(x) - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < radius**2
    return inside


def _hindbrain(tissue: np.ndarray, brain: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Cerebellum and brain stem: what the tissue map's valleys cut off from the cerebrum (found at 2 mm)."""
    coarse = (slice(None, None, 2),) * 3
    coarse_points = [axis[coarse] for axis in points]
    markers = np.zeros(tissue[coarse].shape, np.uint8)
    markers[_balls(CEREBELLUM_SEEDS, coarse_points)] = 1
    markers[_balls(CEREBRUM_SEEDS, coarse_points) | (coarse_points[2] > 12) & brain[coarse]] = 2
    flooded = watershed(-ndimage.gaussian_filter(tissue, 1.0)[coarse], markers, mask=brain[coarse]) == 1
    fine = np.repeat(np.repeat(np.repeat(flooded, 2, 0), 2, 1), 2, 2)
    return fine[tuple(slice(n) for n in brain.shape)] & brain


def _ventricles(deep_fluid: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Cerebrospinal fluid deep inside the cerebrum, in pieces large enough to be no stray voxels."""
    x, y, z = points
    box = (np.abs(x) < 36) & (y > -52) & (y < 34) & (z > -12) & (z < 32)
    labels, _ = ndimage.label(deep_fluid & box)
    sizes = np.bincount(labels.ravel())
    return np.isin(labels, np.flatnonzero(sizes > 300)[1:])


def _deep_grey(grey, hindbrain, points) -> np.ndarray:
    """Thalamus, caudate, putamen and pallidum: grey matter inside an ellipsoid that ends before the insula."""
    x, y, z = points
    ellipsoid = (np.abs(x) / 31) ** 2 + ((y + 6) / 32) ** 2 + ((z - 5) / 19) ** 2 < 1
    mask = (grey > 0.3) & ellipsoid & ~hindbrain
    return ndimage.binary_opening(mask, iterations=1)


def _filled_white(white, ventricles, deep, hindbrain) -> np.ndarray:
    """One solid per cerebrum, as FreeSurfer fills it, so that its surface carries cortex and nothing else."""
    solid = (ndimage.gaussian_filter(white, 0.5) > WHITE_LEVEL) & ~hindbrain | ventricles | deep
    solid = ndimage.binary_closing(solid & ~hindbrain, iterations=1)
    labels, _ = ndimage.label(ndimage.binary_fill_holes(solid))
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def _cortex(ribbon: np.ndarray, ventricle_distance: np.ndarray) -> np.ndarray:
    """Where grey matter covers the surface: not at the ventricles, the callosum or the cut of the brain stem."""
    ribbon = ndimage.binary_opening(ribbon, iterations=1) & (ventricle_distance > 4.5)
    labels, _ = ndimage.label(ribbon)
    ribbon = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    near = ndimage.distance_transform_edt(~ribbon) < 2.5
    return ndimage.gaussian_filter(near.astype(np.float32), 1.0)
