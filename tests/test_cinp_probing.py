"""Probes: nothing is learned from test people, the strength comes from validation alone, and bad input is named."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from small_people import features_of, task_of

from cinp_lib.folds import repeated_folds
from cinp_lib.probing import ProbeConfig, TrainingSpan, fitted_probe, linear_probe, permutation_test, probe


@pytest.fixture(autouse=True)
def no_classifier_stops_early():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        yield


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["svm", "ridge"])
def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is(classes, kind):
    task = task_of(240, classes)
    folds, config = repeated_folds(task, 3), ProbeConfig(kind)
    found = probe(features_of(task, 2.0), task, folds, config)
    assert found.value() > 1 / classes + 0.25 and found.interval().low > 1 / classes
    nothing = probe(features_of(task, 0.0), task, folds, config)
    assert not nothing.interval().excludes(1 / classes)


def test_the_probe_is_scikit_learns_classifier_on_standardised_rows_of_the_training_part():
    task = task_of(60)
    features, (fold,) = features_of(task, number=5), repeated_folds(task, 1)
    made = linear_probe(features, task, ProbeConfig(strengths=(10.0,)))(fold)
    scaler = StandardScaler().fit(features[fold.training])
    plain = LinearSVC(C=10.0, class_weight="balanced", tol=1e-3, max_iter=20_000, random_state=0)
    plain.fit(scaler.transform(features[fold.training]) / np.sqrt(5), task.y[fold.training])
    expected = plain.decision_function(scaler.transform(features[fold.test]) / np.sqrt(5))
    assert made.test[:, 1] == pytest.approx(expected)
    assert made.test[:, 0] == pytest.approx(-expected)


@pytest.mark.parametrize("kind", ["svm", "ridge"])
def test_the_span_of_the_training_rows_changes_the_time_and_not_the_answer(kind):
    task = task_of(40)
    features, (fold,) = features_of(task, number=300), repeated_folds(task, 1)
    config = ProbeConfig(kind, strengths=(1.0,), tolerance=1e-8)
    made = linear_probe(features, task, config)(fold)
    scaler = StandardScaler().fit(features[fold.training])
    rows = {
        name: scaler.transform(features[part]) / np.sqrt(300) for name, part in vars(fold).items() if name != "name"
    }
    plain = config.classifier(1.0).fit(rows["training"], task.y[fold.training])
    assert made.test[:, 1] == pytest.approx(plain.decision_function(rows["test"]), abs=1e-3)
    assert TrainingSpan().fit_transform(rows["training"]).shape[1] < len(fold.training)


def test_test_people_change_nothing_but_their_own_scores():
    """The leak test: whatever the test rows hold, classifier, scaler and choice are the same."""
    task = task_of(60)
    features, (fold,) = features_of(task, 0.5, number=90), repeated_folds(task, 1)
    other = features.copy()
    other[fold.test] = 1e3 * np.random.default_rng(9).normal(size=other[fold.test].shape)
    pipelines, made = zip(
        *(fitted_probe(own, task.y, fold, ProbeConfig(), StandardScaler()) for own in (features, other)), strict=True
    )
    assert np.array_equal(made[0].validation, made[1].validation) and made[0].chosen == made[1].chosen
    assert np.array_equal(pipelines[0][-1].coef_, pipelines[1][-1].coef_)
    shuffled = task.y.copy()
    shuffled[fold.test] = 1 - shuffled[fold.test]
    _, relabelled = fitted_probe(features, shuffled, fold, ProbeConfig(), StandardScaler())
    assert np.array_equal(relabelled.test, made[0].test), "test labels are never read"


def test_validation_people_choose_the_strength_and_nothing_else():
    task = task_of(60)
    features, (fold,) = features_of(task, 0.5), repeated_folds(task, 1)
    other = features.copy()
    other[fold.validation] += 5.0
    one = ProbeConfig(strengths=(1.0,))
    _, made = fitted_probe(features, task.y, fold, one, StandardScaler())
    _, moved = fitted_probe(other, task.y, fold, one, StandardScaler())
    assert np.array_equal(made.test, moved.test) and not np.array_equal(made.validation, moved.validation)


def test_the_strength_with_the_best_validation_auroc_is_taken_and_of_equals_the_first():
    task = task_of(60)
    features, (fold,) = features_of(task, 0.8, number=40), repeated_folds(task, 1)
    strengths, config = (0.001, 0.1, 100.0), ProbeConfig()
    alone = [
        fitted_probe(features, task.y, fold, replace(config, strengths=(c,)), StandardScaler())[1].chosen
        for c in strengths
    ]
    chosen = fitted_probe(features, task.y, fold, replace(config, strengths=strengths), StandardScaler())[1].chosen
    assert chosen == max(alone, key=lambda own: own["validation_auroc"])
    same = np.zeros_like(features)
    assert linear_probe(same, task, config)(fold).chosen["strength"] == config.strengths[0]


def test_the_fitted_pipeline_takes_raw_features():
    task = task_of(60)
    features, (fold,) = features_of(task), repeated_folds(task, 1)
    pipeline, made = fitted_probe(features, task.y, fold, ProbeConfig(), StandardScaler())
    assert pipeline.decision_function(features[fold.test]) == pytest.approx(made.test[:, 1])


def test_units_and_offsets_of_features_do_not_matter():
    task = task_of(80)
    features, folds = features_of(task), repeated_folds(task, 2)
    scaled = features * np.geomspace(1e-3, 1e3, 7) + 50
    plain, other = (probe(own, task, folds).table["score_1"].to_numpy() for own in (features, scaled))
    assert plain == pytest.approx(other, abs=1e-4)


def test_features_need_not_be_numbers_where_a_preparation_makes_them_so():
    task = task_of(60)
    words = pd.DataFrame({"word": np.where(task.y == 1, "yes", "no")})
    from sklearn.preprocessing import OneHotEncoder

    found = probe(words, task, repeated_folds(task, 2), preparation=make_pipeline(OneHotEncoder(sparse_output=False)))
    assert found.value("accuracy") == 1.0


def test_shuffled_labels_within_sites_give_the_null_of_a_probe():
    task = task_of(60)
    folds = repeated_folds(task, 1)
    strong = permutation_test(features_of(task, 4.0), task, folds, draws=19)
    nothing = permutation_test(features_of(task, 0.0), task, folds, draws=19)
    assert strong.p_value == pytest.approx(1 / 20) and nothing.p_value > 0.05
    assert strong.value == probe(features_of(task, 4.0), task, folds).value()


def test_few_test_people_may_all_be_of_one_class_once_labels_are_shuffled():
    task = task_of(30)
    test = permutation_test(features_of(task, 4.0), task, repeated_folds(task, 1), draws=39)
    assert 0 < test.p_value <= 1


def test_what_is_only_the_site_is_no_evidence_within_site():
    """Classes follow sites, and features know the site alone: accuracy is high, the permutation test is not fooled."""
    task = task_of(120)
    rng = np.random.default_rng(3)
    sick_at = np.where(task.table["site"] == "S0", 0.8, 0.2)
    diagnosis = np.where(rng.random(120) < sick_at, "autism", "control")
    task = replace(task, table=task.table.assign(diagnosis=diagnosis))
    features = rng.normal(size=(120, 4)) + 3 * (task.table["site"] == "S0").to_numpy()[:, None]
    test = permutation_test(features, task, repeated_folds(task, 2), draws=39)
    assert test.value > 0.65 and test.p_value > 0.05


def test_bad_features_are_refused_by_name():
    task = task_of(40)
    folds, features = repeated_folds(task, 1), features_of(task)
    with pytest.raises(ValueError, match=r"one row of features for each of 40 people, got \(39, 7\)"):
        probe(features[1:], task, folds)
    features[[3, 5]] = np.nan
    with pytest.raises(ValueError, match="2 people have NaN or infinity among their features, first p003, p005"):
        probe(features, task, folds)
    with pytest.raises(ValueError, match="expected svm or ridge, got 'forest'"):
        ProbeConfig("forest")
    with pytest.raises(ValueError, match="expected numbers above 0"):
        ProbeConfig(strengths=())
