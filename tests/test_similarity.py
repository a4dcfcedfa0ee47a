"""Similarity inside the brain: against loops, against torchmetrics, and what must not count."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_lib import similarity
from gan_lib.similarity import METRICS, WINDOW, WINDOW_RADIUS, box_around, in_slices, mean_absolute_error, psnr, ssim


def two_images(shape, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.random(shape).astype(np.float32)
    second = np.clip(0.6 * first + 0.2 + 0.1 * rng.normal(size=shape), 0, 1).astype(np.float32)
    return first, second, rng.random(shape) < 0.3


def naive_ssim(first, second, mask, sigma=1.5, radius=5) -> float:
    """Wang et al. 2004, window by window; beyond an edge the image is mirrored."""
    first, second = (np.pad(np.where(mask, a, 0).astype(float), radius, mode="symmetric") for a in (first, second))
    line = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weight = line[:, None] * line
    weight = (weight if mask.ndim == 2 else weight[:, :, None] * line) / (line.sum() ** mask.ndim)
    values = []
    for at in np.argwhere(mask):
        window = tuple(slice(k, k + 2 * radius + 1) for k in at)
        x, y = first[window], second[window]
        mx, my = (weight * x).sum(), (weight * y).sum()
        vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
        covariance = (weight * (x - mx) * (y - my)).sum()
        c1, c2 = 0.01**2, 0.03**2
        values.append((2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(13, 17), (11, 11), (11, 13, 12)])
def test_ssim_equals_a_loop_over_windows(shape):
    first, second, mask = two_images(shape)
    mask &= np.random.default_rng(5).random(shape) < (0.2 if len(shape) == 3 else 1)
    assert ssim(first, second, mask) == pytest.approx(naive_ssim(first, second, mask), abs=2e-6)


def test_ssim_agrees_with_torchmetrics_where_no_window_crosses_an_edge():
    first, second, mask = two_images((24, 27, 25), seed=1)
    inner = np.zeros_like(mask)
    inner[6:-6, 6:-6, 6:-6] = True
    mask &= inner
    a, b = (torch.from_numpy(np.where(mask, image, 0))[None, None] for image in (first, second))
    _, theirs = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    assert ssim(first, second, mask) == pytest.approx(float(theirs[0, 0].numpy()[mask].mean()), abs=3e-4)


@pytest.mark.parametrize("seed", range(12))
def test_cropping_to_the_mask_changes_no_digit(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(11, 30, 3))
    first, second, _ = two_images(shape, seed)
    mask = np.zeros(shape, dtype=bool)
    low = [rng.integers(0, n) for n in shape]
    mask[tuple(slice(k, k + rng.integers(2, 9)) for k in low)] = True
    mask[tuple(low)] = mask[tuple(rng.integers(0, n) for n in shape)] = True
    whole = structural_similarity(*(np.where(mask, a, 0) for a in (first, second)), data_range=1.0, full=True, **WINDOW)
    assert ssim(first, second, mask) == float(whole[1][mask].mean(dtype=np.float64))


def test_the_box_holds_every_window_and_no_more():
    for low in range(25):
        mask = np.zeros((25, 11), dtype=bool)
        mask[low : low + 3, 4] = True
        rows, columns = box_around(mask, WINDOW_RADIUS)
        assert rows.start <= max(0, low - 5) and rows.stop >= min(25, low + 8)
        assert 11 <= rows.stop - rows.start <= 13 and columns == slice(0, 11)


def test_what_lies_outside_the_mask_never_counts():
    first, second, mask = two_images((15, 14, 13))
    elsewhere = np.where(mask, first, 77.0).astype(np.float32)
    elsewhere[~mask & (second > 0.5)] = np.nan
    for metric in METRICS.values():
        assert metric.function(elsewhere, second, mask) == metric.function(first, second, mask)


@pytest.mark.parametrize("name", METRICS)
def test_in_slices_is_the_mean_over_axial_slices_that_hold_brain(name):
    first, second, mask = two_images((13, 15, 9))
    mask[..., 0] = mask[..., 8] = False
    metric = METRICS[name]
    expected = np.mean([metric.function(first[..., k], second[..., k], mask[..., k]) for k in range(1, 8, 2)])
    assert in_slices(metric, step=2).function(first, second, mask) == pytest.approx(expected)
    assert in_slices(metric).better == metric.better and "slices" in in_slices(metric).axis_label
    with pytest.raises(ValueError, match="expected volumes"):
        in_slices(metric).function(first[..., 4], second[..., 4], mask[..., 4])


def test_equal_images_are_as_alike_as_can_be():
    first, _, mask = two_images((16, 12))
    assert (ssim(first, first, mask), mean_absolute_error(first, first, mask)) == (1.0, 0.0)
    assert psnr(first, first, mask) == np.inf


def test_psnr_and_error_equal_their_formulas():
    first, second, mask = two_images((9, 5, 7))
    differences = [
        float(a) - float(b) for a, b, inside in zip(first.flat, second.flat, mask.flat, strict=True) if inside
    ]
    mean_square = sum(d * d for d in differences) / len(differences)
    assert psnr(first, second, mask) == pytest.approx(-10 * np.log10(mean_square), rel=1e-5)
    assert mean_absolute_error(first, second, mask) == pytest.approx(sum(map(abs, differences)) / len(differences))


def test_noise_is_worse_by_every_metric_and_gain_says_so():
    first, _, mask = two_images((18, 18, 18))
    rng = np.random.default_rng(3)
    little, much = (np.clip(first + sd * rng.normal(size=first.shape), 0, 1) for sd in (0.02, 0.2))
    for name, metric in METRICS.items():
        before, after = metric.function(much, first, mask), metric.function(little, first, mask)
        assert metric.gain(before, after) > 0, name
        assert metric.better in metric.axis_label


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b, m: (a[1:], b, m), r"one shape, got \(13, 14\), \(14, 14\) and \(14, 14\); resample"),
        (lambda a, b, m: (a, b, m & False), "the mask is empty; give the voxels"),
        (lambda a, b, m: (a * 255, b, m), r"the first image runs from .* expected \[0, 1\]; bring it to the study's"),
        (lambda a, b, m: (a, b - 0.5, m), "the second image runs from -0.*clip a translation"),
        (lambda a, b, m: (np.where(m, np.nan, a), b, m), "runs from nan to nan"),
        (lambda a, b, m: (a[0], b[0], m[0]), r"a slice \(2D\) or a volume \(3D\), got 1 axes"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(metric, change, message):
    with pytest.raises(ValueError, match=message):
        metric.function(*change(*two_images((14, 14))))


def test_ssim_refuses_images_without_structure_and_smaller_than_its_window():
    first, second, mask = two_images((12, 12))
    with pytest.raises(ValueError, match=r"the second image is constant \(0.25\) inside the mask"):
        ssim(first, np.where(mask, 0.25, second), mask)
    with pytest.raises(ValueError, match=r"at least 11 voxels along every axis .* got \(10, 12\); pad"):
        ssim(first[:10], second[:10], mask[:10])


def test_rounding_beyond_the_range_is_no_error_and_integers_are_images_too():
    first, second, mask = two_images((12, 12))
    assert mean_absolute_error(first + np.float32(2e-6) * (first > 0.999), second, mask) >= 0
    labels = (first > 0.5).astype(np.int16)
    assert mean_absolute_error(labels, labels, mask) == 0


def test_scikit_image_still_cuts_the_window_where_the_crop_expects_it():
    spike = np.zeros((41, 41), dtype=np.float64)
    spike[20, 20] = 1
    _, similar = structural_similarity(spike, spike[::-1] * 0.5, data_range=1.0, full=True, **WINDOW)
    reached = np.argwhere(np.abs(similar - similar[0, 0]) > 1e-12)
    assert tuple(np.ptp(reached, axis=0)) == (2 * similarity.WINDOW_RADIUS,) * 2
