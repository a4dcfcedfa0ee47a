"""Intensity normalisers: the study's and the robust alternatives."""

import json

import numpy as np
import pytest

from study_lib.brain_mask import brain_mask, mask_array
from study_lib.intensity import (
    NORMALISERS,
    IntensityError,
    MinMaxNormaliser,
    Normaliser,
    PercentileNormaliser,
    StudyNormaliser,
    WhiteMatterNormaliser,
    ZScoreNormaliser,
    white_matter_mode,
)
from study_lib.splits import LeakError, forbid_leak
from study_lib.volume import load_volume

KINDS = list(NORMALISERS.values())
TISSUES = {"csf": (300.0, 60.0), "grey": (700.0, 70.0), "white": (1000.0, 50.0)}


def t1_like(seed=0, gain=1.0, offset=0.0, shape=(23, 27, 21)) -> tuple[np.ndarray, np.ndarray]:
    """Three tissues in a ball, air around it, a few bright vessels; a volume and its mask."""
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij"))
    mask = (x**2).sum(axis=0) < 1
    tissue = rng.choice(list(TISSUES), size=shape, p=[0.12, 0.5, 0.38])
    values = sum((tissue == name) * rng.normal(*TISSUES[name], shape) for name in TISSUES)
    values[rng.random(shape) < 0.002] = 2500
    values = np.where(mask, gain * values + offset, rng.rayleigh(20, shape))
    return values.astype(np.float32), mask


def fitted(kind: type[Normaliser]) -> Normaliser:
    volumes, masks = zip(*(t1_like(seed) for seed in (1, 2, 3)), strict=True)
    return kind().fit(volumes, masks, ["s1", "s2", "s3"])


def naive_study(volume, mask, low=-3.0, high=3.0):
    """z-score, clip, shift by the lower limit, division by the maximum: voxel by voxel."""
    voxels = [float(v) for v, inside in zip(volume.ravel(), mask.ravel(), strict=True) if inside]
    mean = sum(voxels) / len(voxels)
    sd = (sum((v - mean) ** 2 for v in voxels) / len(voxels)) ** 0.5
    clipped = [min(max((v - mean) / sd, low), high) - low for v in voxels]
    top = max(clipped)
    left = iter(clipped)
    return np.array([next(left) / top if inside else 0.0 for inside in mask.ravel()]).reshape(volume.shape)


@pytest.mark.parametrize("limits", [(-3.0, 3.0), (-1.0, 2.5), (-9.0, 9.0)])
def test_the_decks_normalisation_equals_a_loop_over_voxels(limits):
    volume, mask = t1_like()
    got = StudyNormaliser(limits=limits).transform(volume, mask)
    assert np.abs(got - naive_study(volume, mask, *limits)).max() < 1e-6
    assert got.max() == 1.0 and got.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_every_normaliser_gives_zero_to_one_and_an_untouched_zero_background(kind):
    volume, mask = t1_like(seed=9)
    got = fitted(kind).transform(volume, mask)
    assert got.shape == volume.shape and got.dtype == np.float32
    assert got.min() >= 0 and got.max() <= 1 and np.isfinite(got).all()
    assert not got[~mask].any()
    assert 0.2 < got[mask].mean() < 0.8 and got[mask].std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_brightness_inside_the_brain_is_kept(kind):
    volume, mask = t1_like(seed=9)
    got = fitted(kind).transform(volume, mask)
    order = np.argsort(volume[mask], kind="stable")
    assert (np.diff(got[mask][order]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_scanners_gain_makes_no_difference(kind):
    normaliser = fitted(kind)
    volume, mask = t1_like(seed=5)
    for gain in (0.01, 37.0):
        got = normaliser.transform((gain * volume).astype(np.float32), mask)
        assert np.abs(got - normaliser.transform(volume, mask)).max() < 1e-4


@pytest.mark.parametrize("kind", [StudyNormaliser, ZScoreNormaliser, PercentileNormaliser, MinMaxNormaliser])
def test_an_offset_makes_no_difference_to_all_but_the_white_matter_ratio(kind):
    normaliser = fitted(kind)
    volume, mask = t1_like(seed=5)
    shifted = np.where(mask, volume + 500, volume).astype(np.float32)
    assert np.abs(normaliser.transform(shifted, mask) - normaliser.transform(volume, mask)).max() < 1e-5


def test_what_lies_outside_the_mask_never_matters():
    volume, mask = t1_like()
    loud = np.where(mask, volume, 1e6).astype(np.float32)
    for kind in KINDS:
        normaliser = fitted(kind)
        assert np.array_equal(normaliser.transform(loud, mask), normaliser.transform(volume, mask))


def test_percentile_and_min_max_equal_their_definition():
    volume, mask = t1_like()
    values = np.sort(volume[mask].astype(float))
    low, high = np.percentile(values, [2, 90])
    expected = np.clip((volume - low) / (high - low), 0, 1) * mask
    assert np.abs(PercentileNormaliser(percentiles=(2, 90)).transform(volume, mask) - expected).max() < 1e-6
    expected = (volume - values[0]) / (values[-1] - values[0]) * mask
    assert np.abs(MinMaxNormaliser().transform(volume, mask) - expected).max() < 1e-6


def test_the_learned_window_is_the_median_over_training_scans():
    scans = [t1_like(seed, gain=seed) for seed in (1, 2, 3)]
    windows = []
    for volume, mask in scans:
        z = (volume[mask] - volume[mask].mean(dtype=float)) / volume[mask].std(dtype=float)
        windows.append(np.percentile(z, [0.1, 99.9]))
    learned = ZScoreNormaliser().fit(*zip(*scans, strict=True), ["a", "b", "a"]).learned
    assert np.allclose(learned.window, np.median(windows, axis=0), rtol=1e-5)
    assert learned.subjects == ("a", "b")


def test_fit_reads_one_volume_at_a_time():
    read = []

    def stream(name, part):
        for seed in (1, 2, 3):
            read.append(f"{name} {seed}")
            yield t1_like(seed)[part]

    StudyNormaliser().fit(stream("volume", 0), stream("mask", 1), iter(["a", "b", "c"]))
    assert read == ["volume 1", "mask 1", "volume 2", "mask 2", "volume 3", "mask 3"]


def test_a_test_subject_among_the_training_subjects_of_a_fit_is_a_leak():
    normaliser = fitted(ZScoreNormaliser)
    forbid_leak(normaliser.learned.subjects, ["s4", "s5"])
    with pytest.raises(LeakError, match="s2"):
        forbid_leak(normaliser.learned.subjects, ["s2", "s5"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_normaliser_comes_back_as_it_was(tmp_path, kind):
    normaliser = fitted(kind)
    normaliser.save(tmp_path / "normaliser.json")
    loaded = Normaliser.load(tmp_path / "normaliser.json")
    volume, mask = t1_like(seed=7)
    assert loaded == normaliser
    assert np.array_equal(loaded.transform(volume, mask), normaliser.transform(volume, mask))
    assert json.loads((tmp_path / "normaliser.json").read_text())["learned"]["subjects"] == ["s1", "s2", "s3"]


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"normaliser": "Nyul", "settings": {}, "learned": null}')
    with pytest.raises(IntensityError, match=r"other.json: expected one of StudyNormaliser.*got 'Nyul'"):
        Normaliser.load(tmp_path / "other.json")


@pytest.mark.parametrize("white_share", [0.15, 0.38, 0.6])
def test_the_white_matter_mode_is_found_whatever_its_share(white_share):
    rng = np.random.default_rng(4)
    n = 60_000
    grey = int(n * (0.9 - white_share))
    parts = [(0.1, *TISSUES["csf"]), (grey / n, *TISSUES["grey"]), (white_share, *TISSUES["white"])]
    values = np.concatenate([rng.normal(mean, sd, int(share * n)) for share, mean, sd in parts])
    values = np.concatenate([values, np.full(60, 4000.0)])  # vessels
    for gain in (1.0, 0.003):
        assert white_matter_mode(gain * values) == pytest.approx(gain * 1000, rel=0.015)


def test_one_bright_vessel_moves_min_max_but_not_the_robust_normalisers():
    volume, mask = t1_like(seed=6)
    brightest = volume.copy()
    brightest[tuple(np.argwhere(mask)[100])] = 30_000
    for kind, limit in ((WhiteMatterNormaliser, 0.01), (PercentileNormaliser, 0.02)):
        moved = np.abs(fitted(kind).transform(brightest, mask) - fitted(kind).transform(volume, mask))
        assert np.median(moved[mask]) < limit
    moved = np.abs(MinMaxNormaliser().transform(brightest, mask) - MinMaxNormaliser().transform(volume, mask))
    assert np.median(moved[mask]) > 0.2


def with_nan(volume, mask):
    broken = volume.copy()
    broken[tuple(np.argwhere(mask)[0])] = np.nan
    return broken, mask


@pytest.mark.parametrize("kind", [StudyNormaliser, PercentileNormaliser, WhiteMatterNormaliser])
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda volume, mask: (volume, np.zeros_like(mask)), "mask is empty"),
        (lambda volume, mask: (volume, mask[:-1]), r"shape \(23, 27, 21\), its mask \(22, 27, 21\)"),
        (lambda volume, mask: (np.full_like(volume, 7), mask), "check the mask"),
        (with_nan, "NaN"),
    ],
)
def test_a_bad_volume_is_named_by_its_subject(kind, break_it, words):
    volume, mask = break_it(*t1_like())
    good, good_mask = t1_like(1)
    with pytest.raises(IntensityError, match=f"subject s2: .*{words}"):
        kind().fit([good, volume], [good_mask, mask], ["s1", "s2"])


def test_a_window_that_was_never_learned_is_refused():
    volume, mask = t1_like()
    for kind in (ZScoreNormaliser, WhiteMatterNormaliser):
        with pytest.raises(IntensityError, match="use the copy that fit"):
            kind().transform(volume, mask)


def test_settings_and_calls_that_cannot_work_are_refused():
    with pytest.raises(IntensityError, match=r"limits: expected \(low, high\) with low < high, got \(3, -3\)"):
        StudyNormaliser(limits=(3, -3))
    with pytest.raises(IntensityError, match="no training volumes"):
        StudyNormaliser().fit([], [], [])
    volume, mask = t1_like()
    with pytest.raises(ValueError, match="shorter"):
        StudyNormaliser().fit([volume, volume], [mask], ["a", "b"])


def test_a_real_stripped_t1_looks_sane_under_every_normaliser(shared_data):
    image = load_volume(shared_data / "t1w" / "usc_029_090129_t1_brain_mni.nii.gz")
    volume, mask = np.asarray(image.dataobj), mask_array(brain_mask(image))
    assert white_matter_mode(volume[mask]) == pytest.approx(203_000, rel=0.01)  # read off its histogram
    for kind in KINDS:
        got = kind().fit([volume], [mask], ["usc"]).transform(volume, mask)
        white, csf = got[np.abs(volume - 203_000) < 2000].mean(), got[np.abs(volume - 72_000) < 2000].mean()
        assert white - csf > 0.35 and not got[~mask].any()
