"""Folds keep people apart, and methods see what they are given; bad input is named."""

import re
from dataclasses import replace

import numpy as np
import pytest
from small_people import task_of

from cinp_lib.folds import FoldScores, folds_of, out_of_fold, remembered, repeated_folds, site_folds
from study_lib.splits import LeakError, Split, SplitError


def constant(task, value=0.0):
    """A method that always says the same of everybody."""

    def of(fold):
        shape = len(task.classes)
        return FoldScores(np.full((len(fold.validation), shape), value), np.full((len(fold.test), shape), value))

    return of


def test_the_parts_of_a_fold_are_everybody_once_at_about_seven_to_two_to_one():
    task = task_of(60)
    for fold in repeated_folds(task, 3):
        assert np.array_equal(np.sort(np.concatenate([fold.training, fold.validation, fold.test])), np.arange(60))
        sizes = [len(part) for part in (fold.training, fold.validation, fold.test)]
        assert sizes == pytest.approx([42, 12, 6], abs=2), "whole people in small strata"


def test_a_left_out_site_is_all_of_the_test_part_and_of_no_other():
    task = task_of(60, sites=3)
    folds = site_folds(task)
    assert [fold.name for fold in folds] == ["without S0", "without S1", "without S2"]
    for k, fold in enumerate(folds):
        assert set(task.table["site"].iloc[fold.test]) == {f"S{k}"}
        assert f"S{k}" not in set(task.table["site"].iloc[np.concatenate([fold.training, fold.validation])])


def test_predictions_are_one_row_for_each_test_person_of_each_fold_with_their_own_label():
    task = task_of(60, classes=3)
    folds = repeated_folds(task, 4)

    def knows(fold):
        return FoldScores(np.eye(3)[task.y[fold.validation]], np.eye(3)[task.y[fold.test]], {"strength": 2.0})

    found = out_of_fold(task, folds, knows)
    assert not found.table.duplicated(["fold", "subject"]).any()
    assert len(found) == sum(len(fold.test) for fold in folds)
    labels = dict(zip(task.table["subject"], task.y, strict=True))
    assert found.table["label"].tolist() == [labels[subject] for subject in found.table["subject"]]
    assert found.value("accuracy") == 1.0
    assert found.chosen["strength"].tolist() == [2.0] * 4 and found.chosen["training"].tolist() == [
        len(fold.training) for fold in folds
    ]


def test_scores_of_folds_are_pooled_in_units_of_their_validation_spread():
    """A fold whose classifier is weakly regularised has larger scores, but not more to say."""
    made = FoldScores(np.array([[-3.0, 3.0], [1.0, -1.0]]), np.array([[-2.0, 2.0]]))
    larger = FoldScores(10 * made.validation, 10 * made.test)
    assert larger.scaled().test == pytest.approx(made.scaled().test)
    assert made.scaled().validation.std() == pytest.approx(1)


def test_a_split_that_separates_a_family_or_is_of_other_people_is_refused():
    task = task_of(60)
    split = task.splits(1)[0]
    families = task.table["family"].copy()
    at = [task.table.index[task.table["subject"] == part[0]][0] for part in (split.train, split.test)]
    families[at[0]] = families[at[1]] = "siblings"
    with pytest.raises(LeakError, match="separates families: siblings"):
        folds_of(replace(task, table=task.table.assign(family=families)), [split])
    with pytest.raises(SplitError, match="is of another table"):
        folds_of(task, [Split(("x",), ("y",), ("z",))])


def test_a_fold_without_a_class_to_learn_or_to_choose_by_says_so():
    task = task_of(20)
    controls = task.table["subject"][task.y == 0].tolist()
    others = task.table["subject"][task.y == 1].tolist()
    with pytest.raises(ValueError, match="expected every class in the training part, got control of control, autism"):
        folds_of(task, [Split(controls[:8], (*controls[8:], *others[:2]), others[2:])])
    with pytest.raises(ValueError, match="expected two classes in the validation part, got control"):
        folds_of(task, [Split((*controls[:8], *others[:2]), controls[8:], others[2:])])


def test_scores_that_are_no_numbers_name_the_people_and_a_wrong_shape_is_refused():
    task = task_of(40)
    folds = repeated_folds(task, 1)
    name = task.table["subject"].iloc[folds[0].validation[0]]
    with pytest.raises(ValueError, match=f"validation scores of {name}.* are NaN"):
        out_of_fold(task, folds, constant(task, np.nan))
    wide = FoldScores(np.zeros((len(folds[0].validation), 3)), np.zeros((len(folds[0].test), 3)))
    with pytest.raises(ValueError, match=re.escape("scores of shape (8, 2), got (8, 3)")):
        out_of_fold(task, folds, lambda fold: wide)


def test_a_remembered_method_is_asked_once_about_each_fold_and_says_the_same():
    task, asked = task_of(60), []

    def method(fold):
        asked.append(fold.name)
        return constant(task, float(len(asked)))(fold)

    folds, own = repeated_folds(task, 2), remembered(method)
    first = out_of_fold(task, folds, own).table
    assert out_of_fold(task, folds, own).table.equals(first)
    assert asked == [fold.name for fold in folds]
