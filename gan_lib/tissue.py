"""T1w to tissue labels: fluid, grey and white matter of one scan by its own contrast, the same way for every scan.

No template, no learned intensities: whatever a scanner or a generator does to contrast and brightness, the borders are
those of this scan. Five classes are fitted by expectation maximisation: three tissues, and the voxels that hold two of
them, in any share (Shattuck et al. 2001, NeuroImage 13:856). Each tissue's mean is a quadratic function of place, since
receive fields are smooth and a generator's scale has no known zero. What was chosen by trial was chosen on training
subjects of another phantom cohort (seed 5).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage
from scipy.special import ndtr

from study_lib.shapes import Mask, Volume

Terms = Float[np.ndarray, "term voxel"]
Levels = Float[np.ndarray, "tissue voxel"]
Values = Float[np.ndarray, " voxel"]
Means = Float[np.ndarray, "tissue term"]


@dataclass(frozen=True)
class TissueConfig:
    """Settings of the fit and the borders; one set for every scan, site and method."""

    # Blur makes a ribbon look thicker than it is, at one site more than at another. One step of Van Cittert's
    # deconvolution with this Gaussian brought all four sites to one bias (before: 0 to 6 %).
    blur_mm: float = 1.2
    # Borders on the scale 0 fluid, 1 grey, 2 white: the middle, but for fluid, which thin sulci hide.
    fluid_border: float = 0.44
    white_border: float = 1.5
    iterations: int = 30
    uniform_iterations: int = 10  # first with one field for grey and white, then with one for each tissue
    every: int = 8  # every so many voxels are fitted
    least_tissue: float = 0.1  # share of each pure tissue: else mixed voxels take all that blur has touched
    least_mixture: float = 0.02


def label_image(volume: Volume, mask: Mask, affine: np.ndarray, config: TissueConfig | None = None) -> Nifti1Image:
    """`tissue_labels` as an image, as `gan_lib.cortex` reads it."""
    spacing = tuple(np.linalg.norm(np.asarray(affine)[:3, :3], axis=0).tolist())
    return Nifti1Image(tissue_labels(volume, mask, spacing, config), affine)


def tissue_labels(
    volume: Volume,
    mask: Mask,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    config: TissueConfig | None = None,
) -> UInt8[np.ndarray, "x y z"]:
    """0 background and fluid, 1 grey, 2 white. In any units, as long as white matter is brightest."""
    config = config or TissueConfig()
    levels = tissue_levels(volume, mask, spacing_mm, config)
    labels = np.zeros(volume.shape, np.uint8)
    labels[np.asarray(mask, dtype=bool)] = np.digitize(levels, [config.fluid_border, config.white_border])
    return labels


def tissue_levels(
    volume: Volume,
    mask: Mask,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    config: TissueConfig | None = None,
) -> Values:
    """Every brain voxel between its place's tissue means: 0 fluid, 1 grey, 2 white, straight lines between."""
    config = config or TissueConfig()
    mask = _checked(volume, mask)
    values, terms = sharpened(volume, mask, spacing_mm, config)[mask], _terms(mask)
    means = _fit(values[:: config.every], np.ascontiguousarray(terms[:, :: config.every]), config)
    fluid, grey, white = means @ terms
    gaps = np.maximum([grey - fluid, white - grey], 1e-6 * np.ptp(values))
    return np.where(values < grey, (values - fluid) / gaps[0], 1 + (values - grey) / gaps[1])


def sharpened(volume: Volume, mask: Mask, spacing_mm: tuple[float, float, float], config: TissueConfig) -> Volume:
    """One step of Van Cittert's deconvolution; outside the mask lies fluid, so that the brain's edge stays one."""
    filled = np.where(mask, volume, np.quantile(volume[mask], 0.02)).astype(np.float32)
    if config.blur_mm == 0:
        return filled
    sigma = config.blur_mm / np.asarray(spacing_mm)
    return 2 * filled - ndimage.gaussian_filter(filled, sigma, truncate=3.0)


def _terms(mask: Mask) -> Terms:
    """1, x, y, z and their squares; coordinates from -1 to 1 over the brain."""
    index = np.argwhere(mask).astype(np.float64)
    middle, half = (index.max(0) + index.min(0)) / 2, np.maximum((index.max(0) - index.min(0)) / 2, 1)
    place = (index - middle) / half
    return np.vstack([np.ones(len(place)), place.T, place.T**2])


def _fit(values: Values, terms: Terms, config: TissueConfig) -> Means:
    """Expectation maximisation over three tissues and their two mixtures."""
    start = _first_means(values)
    means = np.zeros((3, len(terms)))
    means[:, 0] = start
    spread, weights = 0.06 * (start[2] - start[0]), np.array([0.15, 0.1, 0.25, 0.2, 0.3])
    least = np.array([config.least_tissue, config.least_mixture] * 2 + [config.least_tissue])
    products, here = _products(terms), means @ terms
    for iteration in range(config.iterations):
        posterior = _likelihood(values, here, spread) * weights[:, None]
        posterior /= np.maximum(posterior.sum(axis=0), 1e-300)
        weights = np.maximum(posterior.mean(axis=1), least)
        weights /= weights.sum()
        pure = posterior[::2]
        fit = _joint_means if iteration < config.uniform_iterations else _own_means
        means = fit(values, terms, products, pure, means)
        here = means @ terms
        spread = np.sqrt((pure * (values - here) ** 2).sum() / pure.sum())
    return means


def _first_means(values: Values) -> Values:
    """Medians of the three classes that Otsu's two thresholds part."""
    from skimage.filters import threshold_multiotsu

    groups = np.digitize(values, threshold_multiotsu(values, 3, nbins=128))
    return np.array([np.median(values[groups == k]) for k in range(3)])


def _likelihood(values: Values, means: Levels, spread: float) -> Float[np.ndarray, "class voxel"]:
    """Of fluid, fluid and grey, grey, grey and white, white; every share of a mixture alike."""
    z = (values - means) / spread
    pure, below = np.exp(-0.5 * z**2) / (spread * np.sqrt(2 * np.pi)), ndtr(z)
    gaps = np.maximum(np.diff(means, axis=0), spread)  # means that meet must not make a mixture certain
    mixed = np.clip(below[:-1] - below[1:], 0, None) / gaps
    return np.stack([pure[0], mixed[0], pure[1], mixed[1], pure[2]])


def _joint_means(values: Values, terms: Terms, products: np.ndarray, pure: Levels, means: Means) -> Means:
    """One field for grey and white; fluid is too dark and too scattered to tell one of its own yet."""
    levels = values - means[:, 1:] @ terms[1:]
    centre = (pure * levels).sum(axis=1) / pure.sum(axis=1)
    weight = pure[1:].sum(axis=0)
    rest = (pure[1:] * (values - centre[1:, None])).sum(axis=0)
    field = np.linalg.solve(_normals(products, weight[None], len(terms))[0, 1:, 1:], terms[1:] @ rest)
    return np.column_stack([centre, np.vstack([np.zeros_like(field), field, field])])


def _own_means(values: Values, terms: Terms, products: np.ndarray, pure: Levels, means: Means) -> Means:
    wanted = (pure * values) @ terms.T
    return np.linalg.solve(_normals(products, pure, len(terms)), wanted[:, :, None])[:, :, 0]


def _products(terms: Terms) -> Float[np.ndarray, "product voxel"]:
    """Of every two terms, once: the normal equations of all iterations are weighted sums of these."""
    first, second = np.triu_indices(len(terms))
    return terms[first] * terms[second]


def _normals(
    products: Float[np.ndarray, "product voxel"], weights: Levels, terms: int
) -> Float[np.ndarray, "tissue term term"]:
    """Normal equations; fields are drawn to 0 by a thousandth, for tissue that is seen in few places."""
    first, second = np.triu_indices(terms)
    normals = np.empty((len(weights), terms, terms))
    normals[:, first, second] = normals[:, second, first] = weights @ products.T
    ridge = 1e-3 * weights.sum(axis=1)[:, None] * np.r_[0.0, np.ones(terms - 1)]  # not the level
    return normals + ridge[:, :, None] * np.eye(terms)


def _checked(volume: Volume, mask: Mask) -> Mask:
    mask = np.asarray(mask, dtype=bool)
    if volume.ndim != 3 or volume.shape != mask.shape:
        raise ValueError(f"tissue: expected a 3D volume and its mask, got {volume.shape} and {mask.shape}")
    if mask.sum() < 1000:
        raise ValueError(f"tissue: the brain mask holds {int(mask.sum())} voxels, expected a brain (1000 or more)")
    inside = volume[mask]
    if not np.isfinite(inside).all() or np.ptp(inside) == 0:
        raise ValueError(
            "tissue: expected finite numbers that vary inside the mask, got NaN, infinity or a constant; check the scan"
        )
    return mask
