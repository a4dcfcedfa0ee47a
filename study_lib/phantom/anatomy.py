"""One person's head: a smooth deformation of the template, and a cortex whose thickness is known region by region."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from study_lib.phantom.atlas import N_CORTICAL, N_REGIONS, load_atlas, nearest_cortical_region
from study_lib.phantom.template import HIGHEST_CORNER_MM, LOWEST_CORNER_MM, load_template
from study_lib.phantom.traits import load_trait_map, regional_scores

MEAN_THICKNESS_MM = 2.8
THICKNESS_GRADIENT_MM = 0.35  # thicker below and in front, thinner at the back, as human cortex is
AGE_THINNING_PER_YEAR = 0.003  # relative to age 40; longitudinal studies find 0.2 to 0.5 % a year
AGE_VENTRICLE_PER_YEAR = 0.012  # log volume
VENTRICLE_SPREAD = 0.20
SEX_SCALE = 0.03  # linear; men's heads are some 10 % larger by volume
HEAD_SCALE_SPREAD = 0.012
FOLDING_SPREAD_MM = 1.2
FOLDING_SMOOTHNESS_MM = 25.0
FIELD_SPACING_MM = 6.0
FIELD_MARGIN_MM = 24.0
PAINT_SPACING_MM = 4.0
PAINT_SMOOTHNESS_MM = 5.0

SHELLS_MM = (
    2.0,
    8.0,
    14.0,
)  # from the brain's hull outward: the end of the fluid, of the skull, of the scalp
BRAIN_MARGIN_MM = 4.0  # no brain tissue lies farther outside the hull


@dataclass(frozen=True)
class Anatomy:
    """What is true of one head, before any scanner has seen it."""

    thickness_mm: np.ndarray  # (78,) mean over each cortical region
    log_volume: np.ndarray  # (116,) of each region against the template, as the deformation really changes it
    thickness_paint: np.ndarray  # the thickness map on the paint grid, in template space
    displacement: np.ndarray  # (4, x, y, z): where a point of this head lies in the template, and the linear scale


def draw_anatomy(traits: np.ndarray, age_years: float, sex: str, rng: np.random.Generator) -> Anatomy:
    """Draw the head of a person with these traits."""
    thickness_score, volume_score = regional_scores(traits, rng)
    spread = load_trait_map()
    thinning = 1 - AGE_THINNING_PER_YEAR * (age_years - 40)
    target = mean_thickness() * (1 + spread.thickness_spread * thickness_score) * thinning
    growth = spread.volume_spread * volume_score
    ventricles = AGE_VENTRICLE_PER_YEAR * (age_years - 40) + VENTRICLE_SPREAD * rng.normal()
    scale = 1 + HEAD_SCALE_SPREAD * rng.normal() + (SEX_SCALE / 2 if sex == "M" else -SEX_SCALE / 2)
    displacement = _displacement(growth, ventricles, scale, rng)
    return Anatomy(
        thickness_mm=_paint_means() @ target,
        log_volume=_regional_log_volume(displacement[3]),
        thickness_paint=np.tensordot(target.astype(np.float32), _paint_basis(), axes=1),
        displacement=displacement,
    )


def hemisphere_thickness(thickness_mm: np.ndarray) -> dict[str, float]:
    """Mean thickness of each hemisphere, weighted by the regions' surface in the template."""
    area = _surface_area()
    return {
        side: float(np.average(thickness_mm[offset::2], weights=area[offset::2]))
        for offset, side in enumerate(("left", "right"))
    }


@lru_cache(maxsize=1)
def mean_thickness() -> np.ndarray:
    """Mean thickness of the 78 cortical regions at age 40."""
    centres = load_atlas().centres[:N_CORTICAL]
    height = (centres[:, 1] - centres[:, 2] - (centres[:, 1] - centres[:, 2]).mean()) / 60.0
    return MEAN_THICKNESS_MM + THICKNESS_GRADIENT_MM * np.clip(height, -1.5, 1.5)


def tissue_shares(anatomy: Anatomy, affine: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The share of each tissue in every voxel of a grid, and of the brain as a whole.

    A voxel that a flat surface crosses at signed distance d (in voxels) from its centre is filled to 0.5 - d. Most of
    the box is no brain, so only voxels near it are looked up in the maps that matter inside.
    """
    points, stretch = _template_points(anatomy, affine, shape)
    voxel = float(np.cbrt(abs(np.linalg.det(affine[:3, :3])))) * stretch
    brain_distance = _sample(_stack("brain_distance"), points, load_template().affine)[0]
    near = brain_distance < BRAIN_MARGIN_MM
    inside = _inside_shares(anatomy, points[near], stretch[near], voxel[near])
    shares = {name: torch.zeros(near.shape).masked_scatter_(near, share) for name, share in inside.items()}
    shells = [_fill(brain_distance - edge, voxel) for edge in (0, *SHELLS_MM)]
    shares["fluid"] = (shells[1] - shares["grey"] - shares["white"] - shares["deep"]).clamp(min=0)
    shares |= {"skull": shells[2] - shells[1], "scalp": shells[3] - shells[2], "brain": shells[0]}
    return {name: share.reshape(shape).numpy() for name, share in shares.items()}


def _inside_shares(anatomy: Anatomy, points, stretch, voxel) -> dict[str, torch.Tensor]:
    """Grey, white and deep grey matter at some points near the brain."""
    white_d, ventricle_d, deep, hind_grey, hind_white, cortex = _sample(
        _stack("white_distance", "ventricle_distance", "deep_grey", "hindbrain_grey", "hindbrain_white", "cortex"),
        points,
        load_template().affine,
    )
    thickness = _sample(_as_tensor(anatomy.thickness_paint[None]), points, _paint_affine())[0] * stretch * cortex
    filled = _fill(white_d, voxel)
    cerebrum = 1 - (hind_grey + hind_white).clamp(0, 1)
    ribbon = torch.where(thickness > 0.5, _fill(white_d - thickness, voxel) - filled, 0)
    fluid = _fill(ventricle_d, voxel) * filled
    deep = torch.minimum(deep * filled, filled - fluid)
    white = (filled - fluid - deep) * cerebrum + hind_white
    return {"grey": ribbon * cerebrum + hind_grey, "white": white, "deep": deep}


def region_labels(anatomy: Anatomy, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The phantom's atlas in this head: label k is region k - 1, 0 is none."""
    atlas = load_atlas()
    points, _ = _template_points(anatomy, affine, shape)
    nodes = np.rint(points.numpy() - atlas.affine[:3, 3]).astype(int)
    nodes = np.clip(nodes, 0, np.array(atlas.labels.shape) - 1)
    return atlas.labels[tuple(nodes.T)].reshape(shape)


def _template_points(anatomy: Anatomy, affine: np.ndarray, shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Where every voxel lies in the template, and how many template mm a mm of this head is."""
    points = torch.from_numpy(_world_points(affine, shape).reshape(-1, 3))
    moved = _sample(_as_tensor(anatomy.displacement), points, _field_affine())
    return points + moved[:3].T, 1 + moved[3]


def _fill(distance_mm: torch.Tensor, voxel_mm: torch.Tensor) -> torch.Tensor:
    return (0.5 - distance_mm / voxel_mm).clamp(0, 1)


def _displacement(growth, ventricles: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Folding that keeps volume, growth that does not, and the size of the head, as one field with its linear scale."""
    log_jacobian = np.tensordot(np.append(growth, ventricles).astype(np.float32), _growth_basis(), axes=1)
    field = _field_of_growth(-log_jacobian) + _folding(rng) + (1 / scale - 1) * _field_points()
    gradient = np.stack([np.stack(np.gradient(component, FIELD_SPACING_MM)) for component in field])
    jacobian = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    linear_scale = np.cbrt(np.clip(np.linalg.det(jacobian), 0.2, 5.0)) - 1
    return np.concatenate([field, linear_scale[None]]).astype(np.float32)


def _regional_log_volume(linear_scale: np.ndarray) -> np.ndarray:
    weights = _growth_basis()[:N_REGIONS].reshape(N_REGIONS, -1)
    return weights @ (-3 * np.log1p(linear_scale.ravel())) / weights.sum(1)


def _folding(rng: np.random.Generator) -> np.ndarray:
    """The curl of a smooth random field: it shifts the folds and, to first order, changes no volume."""
    sigma = FOLDING_SMOOTHNESS_MM / FIELD_SPACING_MM
    potential = rng.normal(size=(3, *_field_shape()))
    smooth = np.stack([ndimage.gaussian_filter(p, sigma, mode="wrap") for p in potential])
    d = [np.stack(np.gradient(component)) for component in smooth]
    curl = np.stack([d[2][1] - d[1][2], d[0][2] - d[2][0], d[1][0] - d[0][1]])
    return curl * (FOLDING_SPREAD_MM / _folding_unit())


@lru_cache(maxsize=1)
def _folding_unit() -> float:
    """Standard deviation of an unscaled curl component: of white noise smoothed by sigma, differentiated twice over.

    A Gaussian of width sigma leaves variance (4 pi sigma^2)^(-3/2); each derivative of it 1 / (2 sigma^2) of that.
    """
    sigma = FOLDING_SMOOTHNESS_MM / FIELD_SPACING_MM
    return float(np.sqrt(2 / (2 * sigma**2) * (4 * np.pi * sigma**2) ** -1.5))


def _field_of_growth(divergence: np.ndarray) -> np.ndarray:
    """The gradient field with this divergence: Poisson's equation, solved in frequency space."""
    spectrum = np.fft.rfftn(divergence)
    waves = np.meshgrid(
        *(2 * np.pi * np.fft.fftfreq(n, FIELD_SPACING_MM) for n in divergence.shape[:2]),
        2 * np.pi * np.fft.rfftfreq(divergence.shape[2], FIELD_SPACING_MM),
        indexing="ij",
    )
    square = sum(w**2 for w in waves)
    square[0, 0, 0] = np.inf  # the mean has no gradient
    return np.stack([np.fft.irfftn(-1j * w * spectrum / square, s=divergence.shape, axes=(0, 1, 2)) for w in waves])


def _box(spacing: float, margin: float) -> tuple[np.ndarray, tuple[int, ...]]:
    low, high = np.array(LOWEST_CORNER_MM) - margin, np.array(HIGHEST_CORNER_MM) + margin
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low
    return affine, tuple(np.ceil((high - low) / spacing).astype(int) + 1)


def _field_affine() -> np.ndarray:
    return _box(FIELD_SPACING_MM, FIELD_MARGIN_MM)[0]


def _field_shape() -> tuple[int, ...]:
    return _box(FIELD_SPACING_MM, FIELD_MARGIN_MM)[1]


def _paint_affine() -> np.ndarray:
    return _box(PAINT_SPACING_MM, 0)[0]


@lru_cache(maxsize=1)
def _field_points() -> np.ndarray:
    return np.moveaxis(_world_points(_field_affine(), _field_shape()), -1, 0)


@lru_cache(maxsize=1)
def _growth_basis() -> np.ndarray:
    """One bump per region, and one for the ventricles: where the head grows when that region does."""
    atlas, template = load_atlas(), load_template()
    labels = np.where(template.ventricle_distance < 0, N_REGIONS + 1, atlas.labels)
    basis = np.zeros((N_REGIONS + 1, *_field_shape()), np.float32)
    where = np.argwhere(labels > 0)
    nodes = np.rint((where + template.affine[:3, 3] - _field_affine()[:3, 3]) / FIELD_SPACING_MM).astype(int)
    np.add.at(basis, (labels[labels > 0] - 1, *nodes.T), 1.0)
    total = ndimage.gaussian_filter(basis.sum(0), 1.0)
    smooth = np.stack([ndimage.gaussian_filter(bump, 1.0) for bump in basis])
    return smooth / np.maximum(total, total.max() * 0.02)


@lru_cache(maxsize=1)
def _paint_basis() -> np.ndarray:
    """How one millimetre of thickness in each cortical region spreads over the paint grid; sums to one everywhere."""
    affine, shape = _box(PAINT_SPACING_MM, 0)
    owner = nearest_cortical_region(_world_points(affine, shape).reshape(-1, 3), load_atlas()).reshape(shape)
    sigma = PAINT_SMOOTHNESS_MM / PAINT_SPACING_MM
    return np.stack([ndimage.gaussian_filter((owner == r).astype(np.float32), sigma) for r in range(N_CORTICAL)])


def _surface() -> tuple[np.ndarray, np.ndarray]:
    """Points of the template's cortical surface (voxels that it crosses) and the region each lies in."""
    template, atlas = load_template(), load_atlas()
    on_surface = (np.abs(template.white_distance - 0.5) < 0.5) & (template.cortex > 0.5)
    points = np.argwhere(on_surface) + template.affine[:3, 3]
    return points, nearest_cortical_region(points, atlas)


@lru_cache(maxsize=1)
def _surface_area() -> np.ndarray:
    return np.bincount(_surface()[1], minlength=N_CORTICAL).astype(float)


@lru_cache(maxsize=1)
def _paint_means() -> np.ndarray:
    """(78, 78): the thickness that each region has on average, once neighbours have been smoothed into each other."""
    points, owner = _surface()
    nodes = ((points - _paint_affine()[:3, 3]) / PAINT_SPACING_MM).T
    means = np.empty((N_CORTICAL, N_CORTICAL))
    for region, bump in enumerate(_paint_basis()):
        value = ndimage.map_coordinates(bump, nodes, order=1)
        means[:, region] = np.bincount(owner, value, N_CORTICAL) / _surface_area()
    return means


def _world_points(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World coordinates of every voxel, (x, y, z, 3), float32."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return grid @ affine[:3, :3].T.astype(np.float32) + affine[:3, 3].astype(np.float32)


def _as_tensor(maps: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))


@lru_cache(maxsize=2)
def _stack(*names: str) -> torch.Tensor:
    return _as_tensor(np.stack([getattr(load_template(), name) for name in names]))


def _sample(maps: torch.Tensor, points: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    """Linear interpolation of (channel, x, y, z) maps, whose axes lie along the world's, at (point, 3) world points."""
    size = torch.tensor(maps.shape[1:], dtype=torch.float32)
    spacing = torch.from_numpy(np.diag(affine)[:3].astype(np.float32))
    index = (points - torch.from_numpy(affine[:3, 3].astype(np.float32))) / spacing
    unit = (2 * index / (size - 1) - 1).flip(-1)  # grid_sample names the last axis first
    return torch.nn.functional.grid_sample(
        maps[None], unit[None, None, None], mode="bilinear", padding_mode="border", align_corners=True
    )[0, :, 0, 0]
