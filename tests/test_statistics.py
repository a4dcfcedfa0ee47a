"""Intervals and tests: against loops, against scipy, and against what they claim."""

import itertools
import time

import numpy as np
import pytest
import scipy.stats

from study_lib.scores import balanced_accuracy, mean, recall, resampled, value_of
from study_lib.statistics import (
    BootstrapSettings,
    Interval,
    bootstrap,
    chance_interval,
    corrected_resampled_t,
    holm,
    paired_difference,
    within_site_permutation,
)

BCA = BootstrapSettings(method="BCa")


def predictions_for(labels, right=0.7, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(labels)) < right, labels, 1 - labels)


def naive_bootstrap(metric, rows_of_subject, strata, draws, seed) -> np.ndarray:
    """Draw subjects within strata, one after the other, and gather all rows of each."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = []
        for stratum in sorted(set(strata.values())):
            members = [subject for subject in rows_of_subject if strata[subject] == stratum]
            for subject in rng.choice(members, len(members)):
                rows.extend(rows_of_subject[subject])
        values.append(metric(rows))
    return np.quantile(values, [0.025, 0.975])


def test_the_bootstrap_equals_a_loop_over_subjects_with_all_their_rows():
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 40, 110)
    label = subject % 3 == 0
    value = rng.normal(size=40)[subject] + label + 0.3 * rng.normal(size=110)
    rows_of_subject = {s: np.flatnonzero(subject == s).tolist() for s in np.unique(subject).tolist()}
    strata = {s: s % 3 == 0 for s in rows_of_subject}
    expected = naive_bootstrap(lambda rows: value[rows].mean(), rows_of_subject, strata, 4000, seed=1)
    got = bootstrap(mean(value), subject, label, BootstrapSettings(draws=4000))
    width = expected[1] - expected[0]
    assert got.value == pytest.approx(value.mean())
    assert abs(got.low - expected[0]) < 0.06 * width and abs(got.high - expected[1]) < 0.06 * width
    assert (got.unit, got.n) == ("subjects", len(rows_of_subject))


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_one_row_per_subject_equals_scipys_own_bootstrap(method):
    values = np.random.default_rng(5).exponential(size=31)
    got = bootstrap(mean(values), np.arange(31), settings=BootstrapSettings(500, method=method, seed=8))
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=500, method=method, rng=np.random.default_rng(8)
    ).confidence_interval
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_repeating_every_row_does_not_narrow_the_interval():
    labels = np.arange(60) % 2
    predictions = predictions_for(labels)
    once = bootstrap(balanced_accuracy(labels, predictions), np.arange(60), labels)
    many = bootstrap(
        balanced_accuracy(np.tile(labels, 5), np.tile(predictions, 5)),
        np.tile(np.arange(60), 5),
        np.tile(labels, 5),
    )
    assert (many.low, many.high, many.n) == (once.low, once.high, 60)


def test_the_interval_holds_the_truth_as_often_as_it_claims():
    held = {"percentile": 0, "BCa": 0}
    for seed in range(150):
        values = np.random.default_rng(seed).exponential(size=40)
        for method in held:
            settings = BootstrapSettings(draws=400, method=method, seed=seed)
            held[method] += not bootstrap(mean(values), np.arange(40), settings=settings).excludes(1.0)
    # a skewed mean of 40: both undercover a little, three standard errors are 5 points
    assert all(0.86 <= count / 150 <= 0.99 for count in held.values())


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    labels = np.arange(50) % 2
    statistic = balanced_accuracy(labels, predictions_for(labels))
    first, second, other = (bootstrap(statistic, np.arange(50), settings=BootstrapSettings(seed=s)) for s in (1, 1, 2))
    assert first == second != other


def test_two_thousand_draws_over_300_subjects_take_less_than_a_second():
    labels = np.arange(300) % 2
    statistic = balanced_accuracy(labels, predictions_for(labels))
    start = time.perf_counter()
    bootstrap(statistic, np.arange(300), labels, BootstrapSettings(draws=2000))
    assert time.perf_counter() - start < 1


def test_many_rows_are_worked_through_in_batches_with_the_same_result(monkeypatch):
    labels = np.arange(90) % 3
    statistic = balanced_accuracy(labels, (labels + (np.arange(90) % 4 == 0)) % 3)
    whole = bootstrap(statistic, np.arange(90), settings=BootstrapSettings(draws=300))
    monkeypatch.setattr("study_lib.statistics.BATCH_ENTRIES", 1000)
    assert bootstrap(statistic, np.arange(90), settings=BootstrapSettings(draws=300)) == whole


def test_a_paired_difference_is_narrower_than_two_methods_apart_and_zero_for_one_method():
    labels = np.arange(120) % 2
    strong = predictions_for(labels, 0.8)
    weak = np.where(np.arange(120) % 15 == 0, 1 - strong, strong)  # wrong more often, on the same subjects
    subjects = np.arange(120)
    paired = paired_difference(balanced_accuracy(labels, strong), balanced_accuracy(labels, weak), subjects, labels)
    alone = bootstrap(balanced_accuracy(labels, strong), subjects, labels)
    assert paired.high - paired.low < 0.8 * (alone.high - alone.low)
    same = paired_difference(balanced_accuracy(labels, weak), balanced_accuracy(labels, weak), subjects)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_a_statistic_without_spread_has_an_interval_without_width(method):
    got = bootstrap(mean(np.full(9, 0.4)), np.arange(9), settings=BootstrapSettings(100, method=method))
    assert (got.low, got.high) == pytest.approx((0.4, 0.4))


def test_a_stratum_of_one_subject_is_kept_in_every_draw():
    seen = []

    def statistic(weights):
        seen.append(weights[:, -1])
        return weights.mean(axis=1) + weights[:, 0]

    bootstrap(statistic, np.arange(10), ["a"] * 9 + ["alone"], BootstrapSettings(50))
    assert (np.concatenate(seen) == 1).all()


def test_a_class_that_some_draws_miss_is_an_error_with_the_way_out():
    labels = np.array([1, 1] + [0] * 20)
    statistic = recall(labels, labels, of=1)
    with pytest.raises(ValueError, match=r"undefined in \d+ of 2000 draws.*strata=labels"):
        bootstrap(statistic, np.arange(22))
    assert bootstrap(statistic, np.arange(22), labels).value == 1


def test_subjects_in_two_strata_and_too_few_subjects_are_refused():
    with pytest.raises(ValueError, match="subjects with more than one stratum: s1; give one"):
        bootstrap(mean([1, 2, 3]), ["s1", "s1", "s2"], ["a", "b", "a"])
    with pytest.raises(ValueError, match="at least two subjects, got 1"):
        bootstrap(mean([1, 2]), ["s1", "s1"])
    with pytest.raises(ValueError, match="every stratum has one subject"):
        bootstrap(mean([1, 2]), ["s1", "s2"], ["a", "b"])


def test_any_metric_can_be_resampled():
    x, y = np.random.default_rng(2).normal(size=(2, 30))
    by_rows = bootstrap(resampled(lambda a, b: (a - b).mean(), x, y), np.arange(30), settings=BCA)
    by_weights = bootstrap(mean(x - y), np.arange(30), settings=BCA)
    assert (by_rows.low, by_rows.high) == pytest.approx((by_weights.low, by_weights.high))


def test_an_interval_prints_its_unit_and_knows_what_it_excludes():
    interval = Interval(0.7126, 0.65, 0.78, n=160, method="percentile bootstrap")
    assert str(interval) == "0.713 [0.650, 0.780] (95%, percentile bootstrap, 160 subjects)"
    assert interval.excludes(0.5) and not interval.excludes(0.7)


def test_the_permutation_p_value_equals_full_enumeration():
    labels = np.array([0, 1, 1, 0, 1, 0, 0])
    sites = np.array(list("AAAABBB"))
    scores = np.array([0.1, 0.9, 0.7, 0.4, 0.8, 0.3, 0.6])

    def metric(drawn):
        return scores[drawn == 1].mean() - scores[drawn == 0].mean()

    every = [
        metric(np.array(a + b)) for a in itertools.permutations(labels[:4]) for b in itertools.permutations(labels[4:])
    ]
    exact = np.mean(np.array(every) >= metric(labels) - 1e-12)
    test = within_site_permutation(metric, labels, sites, draws=4000)
    assert test.value == pytest.approx(metric(labels))
    assert test.p_value == pytest.approx(exact, abs=0.02)


def test_a_classifier_that_only_knows_the_site_is_not_significant_within_sites():
    rng = np.random.default_rng(0)
    sites = np.repeat([0, 1], 100)
    labels = (rng.random(200) < np.where(sites == 0, 0.2, 0.8)).astype(int)

    def accuracy(drawn):  # of a classifier that predicts the site's majority
        return np.mean(drawn == sites)

    assert accuracy(labels) > 0.75
    assert within_site_permutation(accuracy, labels, sites).p_value == 1.0
    assert within_site_permutation(accuracy, labels, np.zeros(200)).p_value < 0.005


def test_within_site_permutation_keeps_one_label_for_all_rows_of_a_subject_and_the_sites_classes():
    subjects = np.repeat(np.arange(20), 3)
    labels, sites = (np.arange(20) % 2)[subjects], (np.arange(20) // 10)[subjects]

    def metric(drawn):
        assert all(len(set(drawn[subjects == s])) == 1 for s in range(20))
        assert all(drawn[sites == s].sum() == labels[sites == s].sum() for s in (0, 1))
        return 0.0

    assert within_site_permutation(metric, labels, sites, subjects, draws=20).n == 20


def test_a_subject_with_two_labels_cannot_be_permuted():
    with pytest.raises(ValueError, match="more than one label: s1"):
        within_site_permutation(np.mean, [0, 1, 1], ["A", "A", "A"], ["s1", "s1", "s2"])


def test_the_permutation_p_value_is_uniform_when_nothing_is_there():
    p_values = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels, scores, sites = rng.integers(0, 2, 30), rng.normal(size=30), rng.integers(0, 3, 30)
        test = within_site_permutation(scores.dot, labels, sites, draws=99, seed=seed)
        p_values.append(test.p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_corrected_t_equals_its_formula_and_students_where_nothing_overlaps():
    differences = [0.03, 0.01, 0.05, -0.02, 0.04]
    got = corrected_resampled_t(differences, n_train=70, n_test=10)
    m = sum(differences) / 5
    s2 = sum((d - m) ** 2 for d in differences) / 4
    t = m / ((1 / 5 + 10 / 70) * s2) ** 0.5
    assert got.t == pytest.approx(t)
    assert got.p_value == pytest.approx(2 * (1 - scipy.stats.t.cdf(t, 4)))
    student = scipy.stats.ttest_1samp(differences, 0)
    plain = corrected_resampled_t(differences, n_train=70, n_test=0)
    assert (plain.t, plain.p_value) == pytest.approx((student.statistic, student.pvalue))
    interval = student.confidence_interval(0.95)
    assert (plain.difference.low, plain.difference.high) == pytest.approx((interval.low, interval.high))
    assert got.difference.unit == "repeats" and got.p_value > plain.p_value


def test_the_corrected_t_of_constant_differences_is_decided_and_of_one_repeat_refused():
    assert corrected_resampled_t([0.0, 0.0, 0.0], 70, 10).p_value == 1
    assert corrected_resampled_t([0.1, 0.1, 0.1], 70, 10).p_value == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="two or more finite differences"):
        corrected_resampled_t([0.1], 70, 10)


def test_holm_equals_a_loop_and_keeps_the_order_given():
    for seed in range(20):
        p = np.random.default_rng(seed).random(7) ** 3
        expected = np.empty(7)
        worst = 0.0
        for rank, index in enumerate(sorted(range(7), key=lambda i: p[i])):
            worst = max(worst, min(1.0, (7 - rank) * p[index]))
            expected[index] = worst
        assert np.allclose(holm(p), expected)
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        holm([0.2, np.nan])


@pytest.mark.parametrize(("n", "probability"), [(30, 0.5), (160, 0.25), (7, 0.5)])
def test_the_chance_interval_equals_adding_up_the_binomial(n, probability):
    cumulative = np.cumsum(scipy.stats.binom.pmf(np.arange(n + 1), n, probability))
    low, high = (next(k for k in range(n + 1) if cumulative[k] >= q) / n for q in (0.025, 0.975))
    got = chance_interval(n, probability)
    assert (got.value, got.low, got.high, got.n) == (probability, low, high, n)


def test_a_chance_interval_of_nobody_is_refused():
    with pytest.raises(ValueError, match=r"got 0, 0\.5"):
        chance_interval(0)


def test_the_value_of_a_statistic_is_that_of_the_rows_as_they_are():
    assert value_of(mean([1.0, 2.0, 6.0]), 3) == 3.0
