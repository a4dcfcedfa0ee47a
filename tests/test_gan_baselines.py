"""Intensity baselines: each beside a loop over voxels, and all on the target's scale."""

import json

import numpy as np
import pytest

from gan_lib.baselines import BASELINES, Baseline, HistogramMatching, MinMax, Nothing, Nyul, WhiteStripe, ZScore
from study_lib.grid import Grid
from study_lib.intensity import IntensityError, StudyNormaliser, white_matter_mode
from study_lib.manifest import load_manifest
from study_lib.preparation import prepare_scans
from study_lib.splits import LeakError, forbid_leak

KINDS = list(BASELINES.values())
TISSUES = {  # mean and spread of fluid, grey and white matter
    "A": ((300, 60), (700, 70), (1000, 50)),
    "B": ((30, 9), (48, 7), (90, 6)),
}
ASSIGNED = [("a1", "A"), ("b1", "B"), ("a2", "A"), ("b2", "B"), ("b3", "B")]


def scan(site="A", seed=0, gain=1.0, offset=0.0, shape=(17, 19, 15)):
    """Three tissues in a ball and air around it; `seed` gives the same head at every site."""
    x = np.stack(np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij"))
    mask = (x**2).sum(axis=0) < 1
    rng = np.random.default_rng(seed)
    tissue, unit = rng.choice(3, size=shape, p=[0.12, 0.5, 0.38]), rng.normal(size=shape)
    means, spreads = np.array(TISSUES[site]).T
    values = means[tissue] + spreads[tissue] * unit
    return np.where(mask, gain * values + offset, 3).astype(np.float32), mask


def training():
    """Volumes, masks, subjects and sites."""
    volumes, masks = zip(*(scan(site, seed) for seed, (_, site) in enumerate(ASSIGNED)), strict=True)
    return volumes, masks, [subject for subject, _ in ASSIGNED], [site for _, site in ASSIGNED]


def fitted(kind, target="B"):
    return kind().fit(*training(), target)


def of_target(target="B"):
    """(brain as scanned, brain in the deck's units) of each training scan of the target."""
    return [
        (volume[mask].astype(float), StudyNormaliser().transform(volume, mask)[mask].astype(float))
        for volume, mask, _, site in zip(*training(), strict=True)
        if site == target
    ]


def naive_units(kind, values):
    if kind is ZScore:
        mean = sum(values) / len(values)
        sd = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        return [(v - mean) / sd for v in values]
    if kind is MinMax:
        low, high = min(values), max(values)
        return [(v - low) / (high - low) for v in values]
    mode = white_matter_mode(values)
    rank = sum(v <= mode for v in values) / len(values)
    low, high = np.quantile(values, [max(rank - 0.05, 0), min(rank + 0.05, 1)])
    stripe = [v for v in values if low <= v <= high]
    mean = sum(stripe) / len(stripe)
    sd = (sum((v - mean) ** 2 for v in stripe) / len(stripe)) ** 0.5
    return [(v - mean) / sd for v in values]


@pytest.mark.parametrize("kind", [ZScore, MinMax, WhiteStripe])
def test_a_linear_baseline_is_its_units_on_the_least_squares_line_of_the_target(kind):
    own, deck = [], []
    for values, studied in of_target():
        own += naive_units(kind, values)
        deck += studied.tolist()
    slope, intercept = np.polyfit(own, deck, 1)  # scans of equal size: pooling counts each the same
    volume, mask = scan("A", 9)
    expected = np.clip(intercept + slope * np.array(naive_units(kind, volume[mask].astype(float))), 0, 1)
    assert np.abs(fitted(kind).transform(volume, mask)[mask] - expected).max() < 1e-5


def test_histogram_matching_gives_every_voxel_the_value_of_its_rank():
    template = np.mean([np.quantile(s, (np.arange(1000) + 0.5) / 1000) for _, s in of_target()], axis=0)
    volume, mask = scan("A", 9)
    values = volume[mask].tolist()
    got = fitted(HistogramMatching).transform(volume, mask)[mask]
    for value, result in list(zip(values, got, strict=True))[::7]:
        rank = sum(other <= value for other in values) / len(values)
        assert result == pytest.approx(np.interp(rank, (np.arange(1000) + 1) / 1000, template), abs=1e-5)


def test_nyul_goes_from_landmark_to_landmark_in_straight_lines():
    percentiles = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
    standard = [np.mean([np.percentile(s, p) for _, s in of_target()]) for p in percentiles]
    volume, mask = scan("A", 9)
    values = volume[mask].astype(float)
    landmarks = [np.percentile(values, p) for p in percentiles]
    expected = []
    for value in values:
        k = 0
        while k < len(landmarks) - 2 and value > landmarks[k + 1]:
            k += 1
        slope = (standard[k + 1] - standard[k]) / (landmarks[k + 1] - landmarks[k])
        expected.append(min(max(standard[k] + slope * (value - landmarks[k]), 0), 1))
    assert np.abs(fitted(Nyul).transform(volume, mask)[mask] - expected).max() < 1e-5


def test_nothing_is_the_decks_own_normalisation_whatever_the_target():
    volume, mask = scan("A", 9)
    for target in "AB":
        assert np.array_equal(
            fitted(Nothing, target).transform(volume, mask), StudyNormaliser().transform(volume, mask)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_baseline_gives_zero_to_one_in_order_and_an_untouched_zero_background(kind):
    volume, mask = scan("A", 9)
    got = fitted(kind).transform(volume, mask)
    assert got.shape == volume.shape and got.dtype == np.float32 and not got[~mask].any()
    assert got.min() >= 0 and got.max() <= 1 and got[mask].std() > 0.05
    assert (np.diff(got[mask][np.argsort(volume[mask], kind="stable")]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_scanners_gain_and_offset_make_no_difference(kind):
    baseline = fitted(kind)
    volume, mask = scan("A", 9)
    other, _ = scan("A", 9, gain=7, offset=400)
    assert np.abs(baseline.transform(other, mask) - baseline.transform(volume, mask)).max() < 2e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_targets_own_scan_stays_about_where_the_deck_puts_it(kind):
    volume, mask = scan("B", 9)
    deck = StudyNormaliser().transform(volume, mask)
    assert (
        np.abs(fitted(kind).transform(volume, mask) - deck)[mask].mean() < 0.06
    )  # the deck's maximum jumps from scan to scan


def test_histogram_matching_and_nyul_take_a_head_nearer_to_itself_at_the_target():
    volume, mask = scan("A", 9)
    real = StudyNormaliser().transform(*scan("B", 9))
    error = {kind: np.abs(fitted(kind).transform(volume, mask) - real)[mask].mean() for kind in KINDS}
    assert error[HistogramMatching] < 0.6 * error[Nothing] and error[Nyul] < 0.6 * error[Nothing]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_targets_scans_have_a_say(kind):
    volumes, masks, subjects, sites = training()
    other = [
        volume if site == "B" else np.full_like(volume, np.nan) for volume, site in zip(volumes, sites, strict=True)
    ]
    assert kind().fit(other, masks, subjects, sites, "B") == fitted(kind)
    assert fitted(kind).learned.subjects == ("b1", "b2", "b3")


def test_a_test_subject_among_the_training_subjects_is_a_leak():
    baseline = fitted(Nyul)
    forbid_leak(baseline.learned.subjects, ["a1", "travelling01"])
    with pytest.raises(LeakError, match="b2"):
        forbid_leak(baseline.learned.subjects, ["b2"])


def test_fit_reads_one_volume_at_a_time():
    read = []

    def stream(part):
        for seed in range(3):
            read.append(part)
            yield scan("B", seed)[part]

    Nyul().fit(stream(0), stream(1), "abc", "BBB", "B")
    assert read == [0, 1] * 3


@pytest.mark.parametrize("name", BASELINES)
def test_a_saved_baseline_comes_back_as_it_was(tmp_path, name):
    baseline = fitted(BASELINES[name])
    baseline.save(tmp_path / "baseline.json")
    loaded = Baseline.load(tmp_path / "baseline.json")
    assert loaded == baseline and type(loaded) is BASELINES[name]
    volume, mask = scan("A", 9)
    assert np.array_equal(loaded.transform(volume, mask), baseline.transform(volume, mask))
    content = json.loads((tmp_path / "baseline.json").read_text())
    assert content["baseline"] == name and content["learned"]["subjects"] == ["b1", "b2", "b3"]


def test_settings_are_saved_with_what_was_learned(tmp_path):
    Nyul(percentiles=(5, 50, 95)).fit(*training(), "A").save(tmp_path / "few.json")
    assert Baseline.load(tmp_path / "few.json").percentiles == (5, 50, 95)


def test_what_cannot_be_fitted_or_read_is_refused(tmp_path):
    volume, mask = scan("A", 9)
    with pytest.raises(IntensityError, match=r"ZScore: no training scan of the target 'C'; .* are of A, B; name one"):
        fitted(ZScore, "C")
    with pytest.raises(IntensityError, match="Nyul: not fitted; use the copy"):
        Nyul().transform(volume, mask)
    with pytest.raises(ValueError, match="shorter"):
        Nyul().fit([volume, volume], [mask, mask], ["s"], ["A", "A"], "A")
    (tmp_path / "other.json").write_text('{"baseline": "GAN"}')
    with pytest.raises(IntensityError, match=r"other.json: expected a baseline of nothing, .*got 'GAN'"):
        Baseline.load(tmp_path / "other.json")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_scan_is_named_by_its_subject(kind):
    volume, mask = scan("A", 9)
    for bad, bad_mask in ((np.full_like(volume, 7), mask), (volume, ~mask & mask), (volume, mask[:-1])):
        with pytest.raises(IntensityError, match="subject s7: "):
            fitted(kind).transform(bad, bad_mask, "s7")
        with pytest.raises(IntensityError, match="subject s7: "):
            kind().fit([bad], [bad_mask], ["s7"], ["A"], "A")


def test_landmarks_that_coincide_are_refused():
    volume, mask = scan("A", 9)
    steps = (volume > 800).astype(np.float32)
    with pytest.raises(IntensityError, match=r"subject s7: percentiles .* fall together"):
        fitted(Nyul).transform(steps, mask, "s7")


def test_on_the_phantom_matching_comes_nearer_to_the_real_scan_than_nothing(phantom):
    cohort = load_manifest(phantom)
    table = cohort.table
    train = prepare_scans(
        cohort, table[(table["role"] == "train") & (table["cohort"] == "phantom-gmc")], Grid.isotropic(4)
    )
    visits = table[(table["subject"] == "travelling01") & table["session"].isin(["smc", "gmc"])]
    source, real = sorted(prepare_scans(cohort, visits, Grid.isotropic(4)), key=lambda s: s.site, reverse=True)
    truth, error = real.normalised(StudyNormaliser()), {}
    given = zip(*((s.head, s.mask, s.subject, s.site) for s in train), strict=True)
    given = [list(column) for column in given]
    for name, kind in BASELINES.items():
        got = kind().fit(*given, "GMC").transform(source.head, source.mask, source.subject)
        error[name] = np.abs(got - truth)[real.mask].mean()
    assert (source.site, real.site) == ("SMC", "GMC")
    assert max(error["histogram_matching"], error["nyul"]) < error["nothing"] < 0.15
