"""What pooled predictions are worth, beside loops; paired by person and fold."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from cinp_lib.predictions import Predictions
from study_lib.statistics import BootstrapSettings

FEW = BootstrapSettings(draws=200)


def predictions(number=24, folds=3, classes=2, skill=1.0, seed=0, tested=0.7):
    """Each fold tests some of the people; `skill` is how much the scores know."""
    rng = np.random.default_rng(seed)
    rows = []
    for fold in range(folds):
        for k in np.flatnonzero(np.random.default_rng(fold).random(number) < tested):
            scores = rng.normal(size=classes)
            scores[k % classes] += skill
            row = {"fold": f"fold {fold}", "subject": f"p{k:02d}", "site": f"S{k % 3}", "label": k % classes}
            row |= {"prediction": int(scores.argmax())} | {f"score_{c}": scores[c] for c in range(classes)}
            rows.append(row)
    names = ("control", "autism", "depression")[:classes]
    chosen = pd.DataFrame({"fold": [f"fold {fold}" for fold in range(folds)], "training": 70})
    return Predictions(names, pd.DataFrame(rows), chosen)


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_are_what_a_loop_and_scikit_learn_find(classes):
    found = predictions(classes=classes, skill=0.7)
    table, recalls, specificities = found.table, [], []
    for k in range(classes):
        own, others = table[table["label"] == k], table[table["label"] != k]
        recalls.append((own["prediction"] == k).mean())
        specificities.append((others["prediction"] != k).mean())
    assert found.value("balanced_accuracy") == pytest.approx(np.mean(recalls))
    assert found.value("balanced_accuracy") == pytest.approx(
        balanced_accuracy_score(table["label"], table["prediction"])
    )
    if classes == 2:
        assert found.value("sensitivity") == pytest.approx(recalls[1])
        assert found.value("specificity") == pytest.approx(recalls[0])
        assert found.value("auroc") == pytest.approx(roc_auc_score(table["label"], table["score_1"]))
    else:
        assert found.value("specificity") == pytest.approx(np.mean(specificities))
        areas = [roc_auc_score(table["label"] == k, table[f"score_{k}"]) for k in range(classes)]
        assert found.value("auroc") == pytest.approx(np.mean(areas))
    assert found.value("accuracy") == pytest.approx((table["label"] == table["prediction"]).mean())
    summary = found.summary(FEW)
    assert summary["majority_rate"] == pytest.approx(table["label"].value_counts().max() / len(table))
    for measure in ("accuracy", "balanced_accuracy", "auroc", "sensitivity", "specificity"):
        assert summary[measure] == found.interval(measure, FEW)


def test_intervals_are_over_people_not_rows():
    """Ten copies of every fold know nothing more of the people."""
    once = predictions(tested=1.1, folds=1, number=40)
    copies = [once.table.assign(fold=f"copy {k}") for k in range(10)]
    many = Predictions(once.classes, pd.concat(copies, ignore_index=True), once.chosen)
    a, b = (found.interval(settings=FEW) for found in (once, many))
    assert (a.low, a.high, a.n) == (b.low, b.high, b.n) and a.n == 40


def test_a_difference_is_of_the_rows_that_both_have_in_whatever_order_they_come():
    good, bad = predictions(skill=2.0), predictions(skill=0.0, seed=5)
    part = Predictions(bad.classes, bad.table[bad.table["fold"] != "fold 2"].iloc[::-1], bad.chosen[:2])
    difference = good.minus(part, settings=FEW)
    own = good.table[good.table["fold"] != "fold 2"]
    expected = [balanced_accuracy_score(t["label"], t["prediction"]) for t in (own, part.table)]
    assert difference.value == pytest.approx(expected[0] - expected[1])
    assert good.minus(good, settings=FEW).value == 0
    assert part.minus(good, settings=FEW).value == pytest.approx(-difference.value)


def test_the_paired_test_is_over_folds_and_knows_how_large_the_parts_were():
    good, bad = predictions(skill=2.0), predictions(skill=0.0, seed=5)
    differences = []
    for fold in ("fold 0", "fold 1", "fold 2"):
        a, b = (t[t["fold"] == fold] for t in (good.table, bad.table))
        differences.append(
            balanced_accuracy_score(a["label"], a["prediction"]) - balanced_accuracy_score(b["label"], b["prediction"])
        )
    test = good.paired_test(bad)
    error = np.sqrt((1 / 3 + len(good) / 3 / 70) * np.var(differences, ddof=1))
    assert test.difference.value == pytest.approx(np.mean(differences))
    assert test.t == pytest.approx(np.mean(differences) / error)


def test_people_of_sites_are_everybody_once():
    found = predictions()
    sites = found.at_sites()
    assert sorted(sites) == ["S0", "S1", "S2"] and sum(map(len, sites.values())) == len(found)
    assert set(sites["S1"].table["site"]) == {"S1"}


def test_methods_without_common_rows_or_of_other_classes_are_not_compared():
    found = predictions()
    other = Predictions(found.classes, found.table.assign(fold="another"), found.chosen)
    with pytest.raises(ValueError, match="0 common rows; give both methods the same folds"):
        found.minus(other)
    with pytest.raises(ValueError, match="classes control, autism and control, autism, depression"):
        found.minus(predictions(classes=3))
    with pytest.raises(KeyError, match="expected accuracy, balanced_accuracy"):
        found.value("kappa")
