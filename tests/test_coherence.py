"""Coherence of slices: against loops, and the reading that blur, flicker and contrast must give."""

import numpy as np
import pytest
from scipy import ndimage

from gan_lib import coherence
from gan_lib.coherence import reformat_ssim, sharpness, slice_jitter, slice_means, through_plane_error
from gan_lib.similarity import brain_slices, ssim


def brain(shape=(37, 41, 39), seed=0):
    """Smooth random tissue in an ellipsoid, 0 outside."""
    rng = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    volume = 0.55 + 0.13 * tissue / tissue.std()
    at = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = sum(x**2 for x in at) < 0.95
    return np.where(mask, np.clip(volume, 0, 1), 0).astype(np.float32), mask


def flicker(volume, share=0.05, seed=1):
    gains = 1 + share * np.random.default_rng(seed).normal(size=volume.shape[2])
    return (volume * gains).astype(np.float32)


def blurred(volume, mask, sigma=2.0):
    """Each voxel mixed with those above and below it, as far as they are brain."""
    mixed, share = (ndimage.gaussian_filter1d(array.astype(float), sigma, axis=2) for array in (volume, mask))
    return np.where(mask, mixed / np.maximum(share, 1e-6), 0).astype(np.float32)


def naive_jitter(volume, mask):
    """The metric's definition, slice by slice, on the mask as it is."""
    areas = [int(mask[:, :, k].sum()) for k in range(mask.shape[2])]
    kept = [k for k, area in enumerate(areas) if area >= 0.25 * max(areas)]
    means = [float(np.mean([volume[i, j, k] for i, j in np.argwhere(mask[:, :, k])])) for k in kept]
    second = [means[t + 1] - 2 * means[t] + means[t - 1] for t in range(1, len(means) - 1)]
    average = sum(second) / len(second)
    deviation = (sum((d - average) ** 2 for d in second) / len(second)) ** 0.5
    return deviation / float(np.mean([volume[tuple(at)] for at in np.argwhere(mask)]))


def naive_sharpness(volume, mask):
    through, in_plane = [], []
    for i, j, k in np.argwhere(mask):
        here = float(volume[i, j, k])
        if k + 1 < mask.shape[2] and mask[i, j, k + 1]:
            through.append(abs(float(volume[i, j, k + 1]) - here))
        if i + 1 < mask.shape[0] and j + 1 < mask.shape[1] and mask[i + 1, j, k] and mask[i, j + 1, k]:
            dx, dy = float(volume[i + 1, j, k]) - here, float(volume[i, j + 1, k]) - here
            in_plane.append((dx**2 + dy**2) ** 0.5)
    return np.mean(through), np.mean(in_plane)


def test_jitter_and_sharpness_equal_loops_over_voxels():
    volume, mask = brain((13, 11, 12))
    assert slice_jitter(volume, mask, border_voxels=0) == pytest.approx(naive_jitter(volume, mask), rel=1e-5)
    edges = sharpness(volume, mask)
    assert (edges.through_plane, edges.in_plane) == pytest.approx(naive_sharpness(volume, mask), rel=1e-5)
    assert edges.value == pytest.approx((edges.through_plane + edges.in_plane) / 2)


def test_the_toy_check_reads_as_it_should():
    volume, mask = brain()
    cases = {
        "identity": volume,
        "gain": 0.8 * volume,
        "gamma": np.where(mask, volume**1.3, 0),
        "flicker": flicker(volume),
        "offsets": np.where(mask, volume + 0.05 * np.random.default_rng(2).normal(size=volume.shape[2]), 0),
        "blur": blurred(volume, mask),
        "constant": np.where(mask, 0.5, 0),
    }
    jitter = {name: slice_jitter(case, mask) for name, case in cases.items()}
    edges = {name: sharpness(case, mask) for name, case in cases.items()}
    error = {name: through_plane_error(case, volume, mask) for name, case in cases.items()}
    # contrast is no flicker: a gain changes neither jitter nor the error of steps, a gamma little
    assert error["identity"] == 0 and error["gain"] == pytest.approx(0, abs=1e-5)
    assert jitter["gain"] == pytest.approx(jitter["identity"], rel=1e-4)
    assert jitter["gamma"] < 1.5 * jitter["identity"] and error["gamma"] < 0.2
    # flicker is seen, of gains and of offsets alike
    assert jitter["flicker"] > 3 * jitter["identity"] and jitter["offsets"] > 3 * jitter["identity"]
    assert error["flicker"] > error["gamma"]
    # blur lowers jitter, so that sharpness must tell: through the plane, and not within it
    assert jitter["blur"] < jitter["identity"]
    assert edges["blur"].through_plane < 0.7 * edges["identity"].through_plane
    assert edges["blur"].value < 0.9 * edges["identity"].value
    assert error["blur"] > 0.2
    # collapse costs neither jitter nor error: sharpness must tell
    assert jitter["constant"] == error["constant"] == 0 == edges["constant"].value
    ratio = {name: coherence.variation_ratio(cases[name], mask) for name in ("identity", "blur", "flicker")}
    assert ratio["blur"] < ratio["identity"] < ratio["flicker"]


def test_a_mask_in_another_rhythm_than_the_slices_is_no_jitter_without_the_border():
    volume, mask = brain()
    volume = np.where(mask, volume, 0.1).astype(np.float32)  # darker around the brain
    coarse = np.repeat(mask[:, :, ::2], 2, axis=2)[:, :, : mask.shape[2]]  # twice as thick slices
    with_border = [slice_jitter(volume, own, border_voxels=0) for own in (mask, coarse)]
    without = [slice_jitter(volume, own) for own in (mask, coarse)]
    assert with_border[1] > 1.5 * with_border[0]
    assert without[1] == pytest.approx(without[0], rel=0.25)


def test_what_lies_outside_the_mask_never_counts():
    volume, mask = brain((17, 15, 16))
    elsewhere = np.where(mask, volume, 9.0).astype(np.float32)
    other, _ = brain((17, 15, 16), seed=4)
    for of in (slice_jitter, sharpness, coherence.variation_ratio):
        assert of(elsewhere, mask) == of(volume, mask)
    assert through_plane_error(elsewhere, other, mask) == through_plane_error(volume, other, mask)


def test_the_slices_that_count_are_one_run_around_the_largest():
    area = np.array([0, 30, 2, 40, 100, 80, 25, 24, 60])
    mask = np.arange(100)[:, None, None] < area
    assert brain_slices(mask).tolist() == [3, 4, 5, 6]
    assert brain_slices(mask, 0.01).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert brain_slices(np.ones((2, 2, 3), dtype=bool)).tolist() == [0, 1, 2]
    assert len(slice_means(mask.astype(np.float32), mask, 0)) == 4


def test_axial_flicker_shows_as_stripes_in_both_other_planes():
    volume, mask = brain()
    flickering = np.clip(flicker(volume), 0, 1)
    for plane in ("coronal", "sagittal"):
        assert reformat_ssim(volume, volume, mask, plane) == pytest.approx(1)
        assert reformat_ssim(flickering, volume, mask, plane) < 0.99
    chosen = brain_slices(np.moveaxis(mask, 1, 2))[::4]
    expected = np.mean([ssim(flickering[:, k], volume[:, k], mask[:, k]) for k in chosen])
    assert reformat_ssim(flickering, volume, mask, "coronal", step=4) == pytest.approx(expected)


def test_the_table_gives_one_row_per_volume_and_the_names_of_the_metrics():
    volume, mask = brain()
    groups = {"source": [("a", volume, mask), ("b", 0.5 * volume, mask)], "after": [("a", flicker(volume), mask)]}
    table = coherence.coherence_table(groups)
    assert table[["group", "subject"]].to_numpy().tolist() == [["source", "a"], ["source", "b"], ["after", "a"]]
    metrics = coherence.coherence_metrics(table)
    expected = (sharpness(volume, mask).value + sharpness(0.5 * volume, mask).value) / 2
    assert metrics["sharpness_source"] == pytest.approx(expected)
    assert metrics["slice_jitter_after"] == slice_jitter(flicker(volume), mask)
    assert {"slice_jitter_source", "sharpness_after", "sharpness_through_plane_after"} <= set(metrics)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda v, m: slice_jitter(v, m[1:]), r"a volume \(x, y, z\) and its mask, got shapes"),
        (lambda v, m: slice_jitter(v, m & False), "the mask is empty; give the subject's brain mask"),
        (lambda v, m: slice_jitter(v[:, :, 8:11], m[:, :, 8:11], 0), "at least 4 neighbouring slices .* got 3"),
        (lambda v, m: slice_jitter(v, m, 30), "nothing is left of the mask without a border of 30 voxels; give"),
        (lambda v, m: slice_jitter(v, m, -1), "border_voxels: expected 0 or more, got -1"),
        (lambda v, m: slice_jitter(-v, m), "the mean brain intensity is -0.5.*expected units in which it is above 0"),
        (lambda v, m: through_plane_error(v, 0 * v, m), "the source does not change between slices"),
        (lambda v, m: coherence.variation_ratio(0 * v, m), "constant inside the mask"),
        (lambda v, m: reformat_ssim(v, v, m, "axial"), "expected plane sagittal or coronal, got 'axial'"),
        (lambda v, m: sharpness(v, m & (np.indices(m.shape).sum(0) % 2 == 0)), "no two neighbouring voxels"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(of, message):
    with pytest.raises(ValueError, match=message):
        of(*brain((17, 15, 18)))
