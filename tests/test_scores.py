"""Scores as functions of weights: equal to scikit-learn and to loops on the repeated rows."""

import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics

from study_lib.scores import (
    accuracy,
    agreement_limit,
    auroc,
    balanced_accuracy,
    classification_statistics,
    classification_summary,
    correlation,
    intraclass_correlation,
    limits_of_agreement,
    mean,
    mean_recall,
    recall,
    specificity,
    value_of,
)
from study_lib.statistics import BootstrapSettings

N, DRAWS = 37, 12


def data(n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % n_classes
    predictions = np.where(rng.random(N) < 0.6, labels, rng.integers(0, n_classes, N))
    scores = np.round(rng.random((N, n_classes)) + 0.5 * np.eye(n_classes)[labels], 1)  # with ties
    weights = rng.multinomial(N, np.full(N, 1 / N), DRAWS)
    return labels, predictions, scores, weights


def repeated(weights, *columns):
    rows = np.repeat(np.arange(N), weights)
    return [column[rows] for column in columns]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (accuracy, sklearn_metrics.accuracy_score),
        (balanced_accuracy, sklearn_metrics.balanced_accuracy_score),
        (lambda y, p: recall(y, p, of=1), lambda y, p: sklearn_metrics.recall_score(y == 1, p == 1)),
    ],
)
def test_classification_scores_equal_scikit_learn_on_the_repeated_rows(ours, theirs):
    labels, predictions, _, weights = data()
    expected = [theirs(*repeated(w, labels, predictions)) for w in weights]
    assert ours(labels, predictions)(weights.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_mean_recall_of_several_answers_is_the_mean_of_their_balanced_accuracies():
    labels, predictions, _, weights = data()
    answers = [predictions, labels, np.roll(predictions, 1), predictions[::-1]]
    each = [balanced_accuracy(labels, own)(weights.astype(float)) for own in answers]
    hits = np.mean([labels == own for own in answers], axis=0)
    assert mean_recall(labels, hits)(weights.astype(float)) == pytest.approx(np.mean(each, axis=0))
    with pytest.raises(ValueError, match=r"one share of hits per label, got \(2,\) for \(37,\)"):
        mean_recall(labels, [0.5, 1])


def test_specificity_equals_counting_by_hand():
    labels, predictions, _, weights = data()
    for w, got in zip(weights, specificity(labels, predictions)(weights.astype(float)), strict=True):
        y, p = repeated(w, labels, predictions)
        per_class = [sum(p[y != c] != c) / sum(y != c) for c in range(3)]
        assert got == pytest.approx(np.mean(per_class))


def test_auroc_equals_scikit_learn_with_ties():
    labels, _, scores, weights = data()
    expected = [
        np.mean([sklearn_metrics.roc_auc_score(y == c, s[:, c]) for c in range(3)])
        for y, s in (repeated(w, labels, scores) for w in weights)
    ]
    assert auroc(labels, scores)(weights.astype(float)) == pytest.approx(expected, abs=1e-12)
    labels, _, scores, weights = data(n_classes=2)
    expected = [sklearn_metrics.roc_auc_score(y, s) for y, s in (repeated(w, labels, scores[:, 1]) for w in weights)]
    assert auroc(labels, scores[:, 1], positive=1)(weights.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_correlation_equals_numpy_far_from_zero():
    rng = np.random.default_rng(1)
    x = 1e6 + rng.normal(size=N)
    y = x + rng.normal(size=N)
    weights = data()[3]
    expected = [np.corrcoef(*repeated(w, x, y))[0, 1] for w in weights]
    assert correlation(x, y)(weights.astype(float)) == pytest.approx(expected, abs=1e-6)


SHROUT_AND_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def naive_icc(ratings) -> float:
    """ICC(2,1) from the two-way analysis of variance, sums written out."""
    n, k = len(ratings), len(ratings[0])
    grand = sum(sum(row) for row in ratings) / (n * k)
    rows = [sum(row) / k for row in ratings]
    columns = [sum(row[j] for row in ratings) / n for j in range(k)]
    subject_ms = k * sum((m - grand) ** 2 for m in rows) / (n - 1)
    rater_ms = n * sum((c - grand) ** 2 for c in columns) / (k - 1)
    residual = [(ratings[i][j] - rows[i] - columns[j] + grand) ** 2 for i in range(n) for j in range(k)]
    error_ms = sum(residual) / ((n - 1) * (k - 1))
    return (subject_ms - error_ms) / (subject_ms + (k - 1) * error_ms + k * (rater_ms - error_ms) / n)


def test_icc_is_the_published_value_of_shrout_and_fleiss():
    assert value_of(intraclass_correlation(SHROUT_AND_FLEISS), 6) == pytest.approx(0.29, abs=0.005)


def test_icc_equals_the_written_out_analysis_of_variance():
    ratings = np.random.default_rng(0).normal(100, 1, (N, 1)) + np.random.default_rng(1).normal(0, 1, (N, 2))
    weights = data()[3]
    expected = [naive_icc(repeated(w, ratings)[0].tolist()) for w in weights]
    assert intraclass_correlation(ratings)(weights.astype(float)) == pytest.approx(expected, rel=1e-9)


def test_icc_sees_a_bias_that_correlation_does_not():
    truth = np.random.default_rng(0).normal(2.5, 0.2, 50)
    shifted = truth + 0.3
    assert value_of(correlation(truth, shifted), 50) == pytest.approx(1)
    assert value_of(intraclass_correlation(np.stack([truth, shifted], axis=1)), 50) < 0.6
    assert value_of(intraclass_correlation(np.stack([truth, truth], axis=1)), 50) == pytest.approx(1)


def test_limits_of_agreement_equal_mean_and_two_standard_deviations():
    first, second = np.random.default_rng(3).normal(2.5, 0.2, (2, 60))
    difference = first - second
    got = limits_of_agreement(first, second, settings=BootstrapSettings(draws=300))
    assert got["bias"].value == pytest.approx(difference.mean())
    for name, sign in (("lower limit", -1), ("upper limit", 1)):
        expected = difference.mean() + sign * 1.959964 * difference.std(ddof=1)
        assert got[name].value == pytest.approx(expected, rel=1e-6)
        assert got[name].low < expected < got[name].high
    weights = data()[3].astype(float)
    rows = [repeated(w, difference[:N])[0] for w in data()[3]]
    expected = [r.mean() + 1.959964 * r.std(ddof=1) for r in rows]
    assert agreement_limit(first[:N], second[:N], 0.975)(weights) == pytest.approx(expected, rel=1e-6)


def test_a_draw_without_one_class_is_undefined_not_guessed():
    labels = np.array([0, 0, 1])
    weights = np.array([[2.0, 1.0, 0.0]])
    assert np.isnan(balanced_accuracy(labels, labels)(weights)).all()
    assert np.isnan(auroc(labels, np.array([0.1, 0.2, 0.3]), positive=1)(weights)).all()


def test_people_who_are_all_of_one_class_have_no_recall_of_the_other():
    labels, predictions = np.array(["autism"] * 4), np.array(["autism", "control"] * 2)
    found = classification_statistics(labels, predictions, None, "autism")
    assert "specificity" not in found and value_of(found["sensitivity"], 4) == 0.5
    found = classification_statistics(labels, predictions, None, "control")
    assert "sensitivity" not in found and value_of(found["specificity"], 4) == 0.5


def test_the_summary_of_two_classes_names_the_positive_one():
    labels = np.array(["autism"] * 12 + ["control"] * 28)
    predictions = np.where(np.arange(40) % 4 == 0, "autism", labels)
    got = classification_summary(labels, predictions, np.arange(40.0)[::-1], "autism")
    assert got["sensitivity"].value == 1.0
    assert got["specificity"].value == pytest.approx(21 / 28)
    assert got["balanced_accuracy"].value == pytest.approx((1 + 21 / 28) / 2)
    assert got["accuracy"].value == pytest.approx(33 / 40)
    assert got["auroc"].value == 1.0
    assert got["majority_rate"] == 0.7 and got["chance"] == 0.5
    assert got["balanced_accuracy"].n == 40 and got["balanced_accuracy"].unit == "subjects"
    with pytest.raises(ValueError, match="of two the positive one"):
        classification_summary(labels, predictions)


def test_the_summary_of_several_classes_averages_over_them():
    labels, predictions, scores, _ = data(4)
    got = classification_summary(labels, predictions, scores, settings=BootstrapSettings(draws=200))
    assert got["sensitivity"] == got["balanced_accuracy"]
    assert got["chance"] == 0.25
    assert {"accuracy", "specificity", "auroc", "majority_rate"} < set(got)


def test_repeats_of_a_subject_count_as_one_subject_in_the_summary():
    labels, predictions, _, _ = data(2)
    once = classification_summary(labels, predictions, positive=1)
    thrice = classification_summary(
        np.tile(labels, 3), np.tile(predictions, 3), positive=1, subjects=np.tile(np.arange(N), 3)
    )
    assert thrice == once


def test_a_travelling_subject_with_several_labels_is_drawn_as_one():
    subjects = np.repeat(np.arange(20), 4)
    sites = np.tile(np.arange(4), 20)
    got = classification_summary(sites, (sites + (subjects % 3 == 0)) % 4, subjects=subjects)
    assert got["accuracy"].n == 20 and "stratified" not in got["accuracy"].method


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: accuracy([0, 1], [0, 1, 1]), "one prediction per label"),
        (lambda: accuracy([], []), "one prediction per label"),
        (lambda: accuracy(["a", "b"], [0, 1]), "text never equals numbers"),
        (lambda: mean([1.0, np.nan]), "1 of 2 numbers are NaN"),
        (lambda: auroc([0, 1, 2], np.zeros((3, 2))), r"expected scores of shape \(3, 3\)"),
        (lambda: auroc([0, 1], np.zeros((2, 2)), positive=1), "one score per row"),
        (lambda: intraclass_correlation(np.zeros(5)), r"expected \(subject, rater\)"),
        (lambda: classification_summary([0, 0], [0, 0]), "two classes or more"),
    ],
)
def test_input_that_has_no_score_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
