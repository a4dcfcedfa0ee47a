"""Answers of many draws beside scikit-learn and loops."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from cinp_lib.prompt_answers import Answers, pooled

CLASSES = ("control", "a", "b")


def answers(number=31, draws=4, classes=3, seed=0, folds=2):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(number) % classes)
    scores = rng.normal(size=(draws, number, classes)) + 0.8 * np.eye(classes)[labels]
    names = [f"p{k % (number - 3):02d}" for k in range(number)]
    labels[-3:] = labels[:3]
    table = pd.DataFrame({"fold": np.sort(np.arange(number) % folds), "subject": names, "label": labels})
    return Answers(CLASSES[:classes], table, np.round(3 * scores))  # with ties


def test_balanced_accuracy_is_the_mean_of_scikit_learns_over_draws():
    own = answers()
    told = own.scores.argmax(2)
    interval = own.interval()
    assert interval.value == pytest.approx(np.mean([balanced_accuracy_score(own.labels, draw) for draw in told]))
    assert interval.low < interval.value < interval.high and interval.n == own.subjects == 28
    in_folds = [own.labels[own.table["fold"] == fold] for fold in (0, 1)]
    expected = [
        [balanced_accuracy_score(y, draw[own.table["fold"] == k]) for k, y in enumerate(in_folds)] for draw in told
    ]
    assert own.over_draws() == pytest.approx(np.array(expected))


@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_is_the_mean_of_scikit_learns_over_draws_folds_and_classes(classes):
    own, expected = answers(classes=classes), []
    for draw in own.scores:
        for fold in (0, 1):
            rows = (own.table["fold"] == fold).to_numpy()
            if classes == 2:
                expected.append(roc_auc_score(own.labels[rows], draw[rows, 1] - draw[rows, 0]))
                continue
            for k in range(3):
                margin = draw[rows, k] - np.delete(draw[rows], k, 1).mean(1)
                expected.append(roc_auc_score(own.labels[rows] == k, margin))
    assert own.auroc() == pytest.approx(np.mean(expected))


def test_recalls_have_balanced_accuracy_as_their_mean():
    own = answers()
    assert list(own.recalls()) == list(CLASSES)
    assert np.mean(list(own.recalls().values())) == pytest.approx(own.interval().value)


def test_folds_whose_draws_differ_alike_have_limits_about_their_mean():
    own = answers(draws=200)
    low, high = own.draw_limits()
    draws = own.over_draws()
    around = draws - draws.mean(0) + own.interval().value
    assert low < own.interval().value < high
    assert 0.93 < ((around >= low) & (around <= high)).mean() < 0.99


def test_a_method_is_compared_on_the_same_people_only():
    first, second = answers(), answers(seed=1)
    with pytest.raises(ValueError, match="same people in the same folds"):
        first.minus(Answers(first.classes, first.table[::-1].reset_index(drop=True), first.scores))
    same = Answers(first.classes, first.table, second.scores)
    assert first.minus(same).value == pytest.approx(first.interval().value - same.interval().value)
    assert first.minus(first).low == first.minus(first).high == 0


def test_pooling_keeps_every_row_with_its_scores():
    first, second = answers(), answers(seed=1)
    both = pooled([first, second])
    assert (
        np.array_equal(both.scores[:, 31:], second.scores)
        and both.table["label"].tolist()[:31] == first.labels.tolist()
    )


def test_scores_that_do_not_fit_are_refused():
    own = answers()
    with pytest.raises(ValueError, match=r"expected scores of \(draws, \(31, 3\)\), got \(4, 31, 2\)"):
        Answers(CLASSES, own.table, own.scores[:, :, :2])
    broken = own.scores.copy()
    broken[1, 4, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite scores for p04"):
        Answers(CLASSES, own.table, broken)
