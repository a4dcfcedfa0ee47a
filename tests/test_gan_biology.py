"""Age and diagnosis before and after harmonisation, and disease that a method paints onto controls."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from gan_lib.biology import (
    adjusted,
    age_regression,
    cohens_d,
    confounded,
    determination,
    diagnosis_effect,
    painted_disease,
    predicted_ages,
)
from gan_lib.combat import ComBat
from study_lib.scores import value_of
from study_lib.statistics import BootstrapSettings

FEW = BootstrapSettings(draws=200)


def cohort(n=150, n_regions=11, seed=0, ill_share=0.4):
    """Thickness that thins with age everywhere and with disease in the first four regions; who is ill; ages."""
    rng = np.random.default_rng(seed)
    ages, patients = rng.normal(70, 6, n), rng.random(n) < ill_share
    disease = np.where(np.arange(n_regions) < 4, -0.2, 0.0)
    noise = rng.normal(0, 0.2, (n, n_regions))
    return 2.5 - 0.02 * (ages[:, None] - 70) + np.outer(patients, disease) + noise, patients, ages


def naive_d(values, patients):
    one, other = (
        [v for v, p in zip(values, patients, strict=True) if p],
        [v for v, p in zip(values, patients, strict=True) if not p],
    )
    means = [sum(group) / len(group) for group in (one, other)]
    squares = sum((v - m) ** 2 for group, m in zip((one, other), means, strict=True) for v in group)
    return (means[0] - means[1]) / (squares / (len(values) - 2)) ** 0.5


def test_cohens_d_equals_its_definition_in_loops_also_on_repeated_rows():
    features, patients, _ = cohort(23)
    expected = np.mean([naive_d(column, patients) for column in features.T])
    assert value_of(cohens_d(features, patients), 23) == pytest.approx(expected)
    times = np.random.default_rng(3).integers(0, 4, 23)
    rows = np.repeat(np.arange(23), times)
    expected = np.mean([naive_d(column[rows], patients[rows]) for column in features.T])
    assert cohens_d(features, patients)(times[None].astype(float))[0] == pytest.approx(expected)


def test_r_squared_equals_scikit_learns_also_on_repeated_rows():
    rng = np.random.default_rng(0)
    ages, predicted, times = rng.normal(70, 6, 31), rng.normal(70, 6, 31), rng.integers(0, 4, 31)
    rows = np.repeat(np.arange(31), times)
    assert value_of(determination(ages, predicted), 31) == pytest.approx(r2_score(ages, predicted))
    drawn = determination(ages, predicted)(times[None].astype(float))[0]
    assert drawn == pytest.approx(r2_score(ages[rows], predicted[rows]))


def test_age_is_found_where_it_is_and_not_where_it_is_not():
    features, _, ages = cohort(200)
    noise = np.random.default_rng(1).normal(size=features.shape)
    got = age_regression(features, noise, ages, settings=FEW)
    assert got.r2_before.low > 0.3 and got.r2_after.value < 0.05
    assert got.mae_change.low > 0
    assert got.mae_before.value == pytest.approx(np.abs(got.predicted_before - ages).mean())
    assert got.mae_change.value == pytest.approx(got.mae_after.value - got.mae_before.value)


def test_equal_features_change_nothing():
    features, patients, ages = cohort(60)
    assert age_regression(features, features, ages, settings=FEW).mae_change.excludes(0) is False
    change = diagnosis_effect(features, features, patients, settings=FEW).mean_change
    assert change.value == change.low == change.high == 0


def test_a_subjects_own_features_and_those_of_its_group_never_train_its_prediction():
    features, _, ages = cohort(40, n_regions=3)
    groups = np.arange(40) // 2
    base = predicted_ages(features, ages, groups, folds=4)
    wrong = ages.copy()
    wrong[6] = 500  # an age cannot change the prediction of its own group, which is held out with it
    moved = predicted_ages(features, wrong, groups, folds=4) != base
    assert not moved[[6, 7]].any() and moved.sum() >= 25
    assert (~moved).sum() == 10  # its whole fold


def test_a_site_held_out_is_predicted_by_the_others_alone():
    features, _, ages = cohort(30, n_regions=3)
    sites = np.repeat(["A", "B", "C"], 10)
    base = predicted_ages(features, ages, sites, folds=None)
    shifted = np.where(sites == "B", ages + 40, ages)
    got = predicted_ages(features, shifted, sites, folds=None)
    assert np.allclose(got[sites == "B"], base[sites == "B"]) and (got[sites != "B"] > base[sites != "B"] + 5).all()


def test_the_effect_of_diagnosis_is_found_in_the_regions_that_carry_it():
    features, patients, ages = cohort(400)
    halved = features.copy()
    halved[patients, :4] += 0.1
    got = diagnosis_effect(features, halved, patients, pd.DataFrame({"age": ages}), range(4), FEW)
    assert got.mean_before.value == pytest.approx(-1, abs=0.2) and got.mean_after.value == pytest.approx(-0.5, abs=0.2)
    assert got.mean_change.value == pytest.approx(0.5, abs=0.05) and got.mean_change.excludes(0)
    assert (got.regions["before_high"][:4] < 0).all()
    assert (got.regions["before_low"] <= got.regions["before"]).all()
    assert got.mean_before.value == pytest.approx(got.regions["before"][:4].mean())


def test_age_that_goes_with_diagnosis_is_not_taken_for_it():
    rng = np.random.default_rng(0)
    patients = rng.random(600) < 0.5
    ages = rng.normal(70, 4, 600) + 6 * patients
    features = 2.5 - 0.05 * (ages[:, None] - 70) + rng.normal(0, 0.2, (600, 3))
    covariates = pd.DataFrame({"age": ages})
    raw = diagnosis_effect(features, features, patients, settings=FEW).mean_before
    kept = diagnosis_effect(features, features, patients, covariates, settings=FEW).mean_before
    assert raw.high < -0.8 and abs(kept.value) < 0.2


def test_adjusting_keeps_the_joint_regressions_residuals_and_effect():
    features, patients, ages = cohort(50)
    sex = np.random.default_rng(2).choice(["F", "M"], 50)
    got = adjusted(features, patients, pd.DataFrame({"age": ages, "sex": sex}))
    design = np.column_stack([np.ones(50), patients, ages, sex == "M"]).astype(float)
    b, *_ = np.linalg.lstsq(design, features, rcond=None)
    centred = design[:, 2:] - design[:, 2:].mean(axis=0)
    assert np.allclose(got, features - centred @ b[2:])
    assert np.array_equal(adjusted(features, patients, None), features)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0, -0.3])
def test_painted_disease_is_the_share_that_was_painted(share):
    expected, _, _ = cohort(40)
    disease = np.linspace(-0.3, 0.05, expected.shape[1])
    across = np.roll(disease, 3) - disease * (np.roll(disease, 3) @ disease) / (disease @ disease)
    jitter = np.random.default_rng(1).normal(0, 1, (40, 1)) * across  # off the disease's direction: does not count
    assert painted_disease(expected + share * disease + jitter, expected, disease, FEW).value == pytest.approx(share)


def two_sites(seed=0):
    """Controls and patients at two sites; what the scanners make of them; a site's look differs in all regions."""
    true, patients, _ = cohort(400, seed=seed, ill_share=0.5)
    sites = np.where(np.arange(400) % 2 == 0, "ADNI", "GMC")
    look = np.random.default_rng(5).normal(0, 0.1, true.shape[1])
    return true, true + np.where(sites == "GMC", 1, 0)[:, None] * look, patients, sites


def harmonised_controls(train, true, seen, patients, sites):
    """ComBat to ADNI fitted on some, applied to the controls at GMC; and where these belong."""
    combat = ComBat(reference="ADNI").fit(seen[train], sites[train], np.flatnonzero(train))
    controls = (sites == "GMC") & ~patients & ~train
    return combat.transform(seen[controls], sites[controls]), true[controls]


def test_sites_that_differ_in_diagnosis_paint_disease_and_balanced_sites_do_not():
    true, seen, patients, sites = two_sites()
    half = np.arange(400) < 200
    disease = true[patients].mean(axis=0) - true[~patients].mean(axis=0)
    biased = half & confounded(patients, sites, patients_at="ADNI", controls_at="GMC")
    painted = painted_disease(*harmonised_controls(biased, true, seen, patients, sites), disease, FEW)
    clean = painted_disease(*harmonised_controls(half, true, seen, patients, sites), disease, FEW)
    assert painted.low > 0.5 and abs(clean.value) < 0.25


def test_a_confounded_choice_holds_patients_of_one_site_and_controls_of_the_other():
    patients, sites = np.array([True, False, True, False, True]), np.array(["A", "A", "B", "B", "C"])
    assert confounded(patients, sites, "A", "B").tolist() == [True, False, False, True, False]
    with pytest.raises(ValueError, match=r"no controls at C; sites are A, B, C"):
        confounded(patients, sites, "A", "C")


TABLE, ILL, YEARS = cohort(30)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predicted_ages(TABLE, YEARS[:-1]), "29 ages, 0 of them not finite, and 29 groups"),
        (lambda: predicted_ages(TABLE, np.where(YEARS > 75, np.nan, YEARS)), "of them not finite"),
        (lambda: predicted_ages(TABLE, YEARS, ["A"] * 30, folds=None), "at least 2 groups, got 1"),
        (lambda: predicted_ages(TABLE * np.nan, YEARS), "330 that are not finite"),
        (lambda: cohens_d(TABLE, np.zeros(30, bool)), "got 0 patients of 30"),
        (lambda: diagnosis_effect(TABLE, TABLE[:, :3], ILL, settings=FEW), r"got \(30, 11\) before and \(30, 3\)"),
        (lambda: adjusted(TABLE, ILL, pd.DataFrame({"site": np.where(ILL, "A", "B")})), "cannot be told apart"),
        (lambda: painted_disease(TABLE, TABLE, np.zeros(11)), "a difference for each region, not all 0"),
        (lambda: painted_disease(TABLE, TABLE, np.ones(10)), r"\(30, 11\), \(30, 11\) and \(10,\)"),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
