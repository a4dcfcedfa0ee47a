"""Tissue labels from a T1w: the same borders whatever the contrast, the brightness and the receive field."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtr

from gan_lib import tissue
from gan_lib.tissue import TissueConfig, label_image, sharpened, tissue_labels, tissue_levels

SHAPE = (47, 44, 41)
SIGNALS = {"fluid": 0.2, "grey": 0.55, "white": 0.9}


def head(signals=SIGNALS, noise=0.02, field=0.0, blur=0.5, seed=0):
    """White matter with a cortex of 3 voxels, in fluid; the truth and the brain mask beside it."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2) * 22
    truth = np.where(distance < 13, 2, np.where(distance < 16, 1, 0)).astype(np.uint8)
    mask = distance < 20
    image = np.choose(truth, list(signals.values())) * np.exp(field * (0.6 * x - 0.5 * y**2 + 0.4 * z))
    image = ndimage.gaussian_filter(image, blur)
    image = image + noise * np.random.default_rng(seed).normal(size=SHAPE)
    return np.where(mask, image, 0).astype(np.float32), mask, truth


def agreement(volume, mask, truth, **changes) -> float:
    labels = tissue_labels(volume, mask, config=TissueConfig(**changes))
    return float((labels[mask] == truth[mask]).mean())


@pytest.mark.parametrize(
    "signals",
    [
        SIGNALS,
        {"fluid": 0.3, "grey": 0.75, "white": 1.0},
        {"fluid": 0.05, "grey": 0.5, "white": 1.0},
        {"fluid": 130.0, "grey": 300.0, "white": 420.0},
    ],
)
def test_borders_are_found_at_every_contrast_and_scale(signals):
    assert agreement(*head(signals, noise=0.06 * (signals["white"] - signals["grey"]))) > 0.95


def test_a_gain_and_an_offset_change_no_label():
    volume, mask, _ = head()
    shifted = np.where(mask, 37 * volume + 900, 0).astype(np.float32)
    same = tissue_labels(volume, mask) == tissue_labels(shifted, mask)
    assert same.mean() > 0.9999


def test_a_monotone_change_of_contrast_moves_few_borders():
    volume, mask, truth = head()
    gamma = np.where(mask, np.clip(volume, 0.01, None) ** 1.4, 0).astype(np.float32)
    assert agreement(gamma, mask, truth) > 0.94


def test_a_receive_field_is_followed():
    volume, mask, truth = head(field=0.3)
    best_threshold = max(
        (np.digitize(volume[mask], [low, high]) == truth[mask]).mean()
        for low in np.linspace(0.2, 0.6, 21)
        for high in np.linspace(0.5, 1.0, 26)
    )
    assert agreement(volume, mask, truth) > max(0.95, best_threshold)


def test_levels_are_those_of_the_tissues_of_the_place():
    volume, mask, truth = head(noise=0.01, field=0.2)
    levels = np.full(SHAPE, np.nan)
    levels[mask] = tissue_levels(volume, mask)
    deep = ndimage.binary_erosion(truth == 2, iterations=2)
    assert np.abs(levels[deep] - 2).mean() < 0.1
    outer = ndimage.binary_erosion((truth == 0) & mask, iterations=2)
    assert np.abs(levels[outer]).mean() < 0.1


def test_the_same_scan_gives_the_same_labels():
    volume, mask, _ = head()
    assert (tissue_labels(volume, mask) == tissue_labels(volume.copy(), mask.copy())).all()


def test_labels_are_0_outside_the_mask_and_volume_and_mask_stay_as_they_were():
    volume, mask, _ = head()
    before = volume.copy()
    labels = tissue_labels(volume, mask)
    assert not labels[~mask].any() and set(np.unique(labels)) == {0, 1, 2}
    assert (volume == before).all()


def test_deconvolution_sharpens_edges_in_millimetres_and_keeps_flat_places():
    volume, mask, truth = head(noise=0, blur=1.0)
    config = TissueConfig()
    sharp = sharpened(volume, mask, (2.0, 2.0, 2.0), config)
    by_hand = np.where(mask, volume, np.quantile(volume[mask], 0.02))
    by_hand = by_hand + (by_hand - ndimage.gaussian_filter(by_hand, config.blur_mm / 2.0, truncate=3.0))
    assert np.allclose(sharp, by_hand, atol=1e-5)
    deep = ndimage.binary_erosion(truth == 2, iterations=5)
    assert np.allclose(sharp[deep], volume[deep], atol=1e-3)
    assert (sharpened(volume, mask, (2.0,) * 3, TissueConfig(blur_mm=0))[mask] == volume[mask]).all()


def test_an_image_of_labels_lies_where_the_scan_lies():
    volume, mask, _ = head()
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 5
    image = label_image(volume, mask, affine)
    assert (image.affine == affine).all() and image.get_data_dtype() == np.uint8
    assert (np.asarray(image.dataobj) == tissue_labels(volume, mask)).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v, m: (v, m[:-1]), "its mask"),
        (lambda v, m: (v, np.zeros_like(m)), "holds 0 voxels"),
        (lambda v, m: (np.zeros_like(v), m), "constant"),
        (lambda v, m: (np.where(m, np.nan, v), m), "NaN"),
    ],
)
def test_scans_that_cannot_be_segmented_are_refused(change, text):
    volume, mask, _ = head()
    with pytest.raises(ValueError, match=text):
        tissue_labels(*change(volume, mask))


def plain_means(values, design, config):
    """The fit as its equations have it: every voxel's weights, one weighted least squares for each tissue."""
    start = tissue._first_means(values)
    means = np.zeros((3, design.shape[1]))
    means[:, 0] = start
    spread, weights = 0.06 * (start[2] - start[0]), np.array([0.15, 0.1, 0.25, 0.2, 0.3])
    least = np.array([config.least_tissue, config.least_mixture] * 2 + [config.least_tissue])
    for iteration in range(config.iterations):
        likelihood = np.zeros((len(values), 5))
        here = design @ means.T
        z = (values[:, None] - here) / spread
        likelihood[:, ::2] = np.exp(-0.5 * z**2) / (spread * np.sqrt(2 * np.pi))
        for pair in (0, 1):
            gap = np.maximum(here[:, pair + 1] - here[:, pair], spread)
            likelihood[:, 2 * pair + 1] = np.maximum(ndtr(z[:, pair]) - ndtr(z[:, pair + 1]), 0) / gap
        posterior = likelihood * weights
        posterior /= posterior.sum(axis=1, keepdims=True)
        weights = np.maximum(posterior.mean(axis=0), least)
        weights /= weights.sum()
        pure, ridge = posterior[:, ::2], np.diag([0.0] + [1e-3] * 6)
        if iteration < config.uniform_iterations:
            levels = values[:, None] - design[:, 1:] @ means[:, 1:].T
            centre = np.array([np.average(levels[:, k], weights=pure[:, k]) for k in range(3)])
            normal, wanted = np.zeros((6, 6)), np.zeros(6)
            for k in (1, 2):
                own = design[:, 1:] * pure[:, k : k + 1]
                normal += own.T @ design[:, 1:] + ridge[1:, 1:] * pure[:, k].sum()
                wanted += own.T @ (values - centre[k])
            field = np.linalg.solve(normal, wanted)
            means = np.column_stack([centre, np.stack([0 * field, field, field])])
        else:
            for k in range(3):
                own = design * pure[:, k : k + 1]
                means[k] = np.linalg.solve(own.T @ design + ridge * pure[:, k].sum(), own.T @ values)
        spread = np.sqrt((pure * (values[:, None] - design @ means.T) ** 2).sum() / pure.sum())
    return means


def test_the_fast_fit_is_the_plain_one():
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (4000, 3))
    design = np.column_stack([np.ones(4000), places, places**2])
    levels = rng.choice([0.2, 0.35, 0.5, 0.6, 0.75], 4000, p=[0.2, 0.1, 0.3, 0.1, 0.3])
    values = levels * (1 + 0.1 * places[:, 0]) + 0.03 * rng.standard_normal(4000)
    config = tissue.TissueConfig()
    found = tissue._fit(values, np.ascontiguousarray(design.T), config)
    np.testing.assert_allclose(found, plain_means(values, design, config), rtol=1e-9, atol=1e-9)
