"""ComBat beside loops, beside numbers of the published code, and on simulated sites whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from gan_lib.combat import ComBat, shrunk
from study_lib.splits import LeakError, forbid_leak


def small():
    """Features, sites, covariates: 22 subjects of three sites, five regions."""
    rng = np.random.default_rng(11)
    sites = np.array(["ADNI"] * 9 + ["GMC"] * 6 + ["SMC"] * 7)
    age = rng.uniform(60, 80, len(sites)).round(1)
    covariates = pd.DataFrame({"age": age, "sex": rng.choice(["F", "M"], len(sites))})
    offset = np.array([{"ADNI": 0.0, "GMC": 0.3, "SMC": -0.2}[site] for site in sites])
    features = rng.normal(2.5, 0.2, (len(sites), 5)) - 0.01 * (age[:, None] - 70) + offset[:, None]
    return np.round(features, 3), sites, covariates


def people(sites):
    return [f"s{k}" for k in range(len(sites))]


def simulated(per_site=150, n_features=30, seed=0, older=0.0):
    """Thickness of many subjects: true values, what sites make of them, sites and covariates."""
    rng = np.random.default_rng(seed)
    sites = np.repeat(["A", "B", "C"], per_site)
    age = rng.normal(70, 6, len(sites)) + older * (sites == "B")
    ill = rng.random(len(sites)) < np.where(sites == "B", 0.5, 0.25)
    true = 2.5 - 0.02 * (age - 70)[:, None] - 0.15 * ill[:, None] + rng.normal(0, 0.2, (len(sites), n_features))
    shift = {"A": np.zeros(n_features), "B": rng.normal(0.3, 0.1, n_features), "C": rng.normal(-0.2, 0.1, n_features)}
    gain = {"A": 1.0, "B": 1.5, "C": 0.7}
    biology = 2.5 - 0.02 * (age - 70)[:, None] - 0.15 * ill[:, None]
    seen = np.array([gain[s] * (t - b) + b + shift[s] for s, t, b in zip(sites, true, biology, strict=True)])
    covariates = pd.DataFrame({"age": age, "diagnosis": np.where(ill, "dementia", "control")})
    return true, seen, sites, covariates


def naive(features, sites, ages, males):
    """ComBat with shrinkage, subject by subject and feature by feature."""
    n, n_features = features.shape
    names = sorted(set(sites))
    design = np.array(
        [[float(s == name) for name in names] + [a, m] for s, a, m in zip(sites, ages, males, strict=True)]
    )
    standard, expected, scale = np.zeros_like(features), np.zeros_like(features), np.zeros(n_features)
    for f in range(n_features):
        b = np.linalg.solve(design.T @ design, design.T @ features[:, f])
        mean = sum(b[names.index(s)] for s in sites) / n
        scale[f] = np.sqrt(sum((features[i, f] - design[i] @ b) ** 2 for i in range(n)) / n)
        for i in range(n):
            expected[i, f] = mean + b[-2] * ages[i] + b[-1] * males[i]
            standard[i, f] = (features[i, f] - expected[i, f]) / scale[f]
    adjusted = np.zeros_like(features)
    for name in names:
        own = [i for i in range(n) if sites[i] == name]
        g = [np.mean(standard[own, f]) for f in range(n_features)]
        d = [np.var(standard[own, f], ddof=1) for f in range(n_features)]
        g0, t2, m, v = np.mean(g), np.var(g, ddof=1), np.mean(d), np.var(d, ddof=1)
        shape, rate = (2 * v + m**2) / v, (m * v + m**3) / v
        for f in range(n_features):
            gs, ds = g[f], d[f]
            for _ in range(200):
                gs = (len(own) * t2 * g[f] + ds * g0) / (len(own) * t2 + ds)
                ds = (rate + 0.5 * sum((standard[i, f] - gs) ** 2 for i in own)) / (len(own) / 2 + shape - 1)
            for i in own:
                adjusted[i, f] = expected[i, f] + scale[f] * (standard[i, f] - gs) / np.sqrt(ds)
    return adjusted


def test_combat_equals_its_restatement_in_loops():
    features, sites, covariates = small()
    got = ComBat().fit(features, sites, people(sites), covariates).transform(features, sites, covariates)
    males = (covariates["sex"] == "M").to_numpy(float)
    assert np.abs(got - naive(features, sites, covariates["age"].to_numpy(), males)).max() < 1e-7


PUBLISHED = {  # neuroCombat 0.2.12 on `small()`, subjects 0, 10 and 21; its reference site needs a numpy before 1.24
    (None, True): [
        [2.67452, 2.72522, 2.5099, 2.69173, 2.80837],
        [2.62835, 2.71823, 2.2561, 2.50042, 2.42764],
        [2.75192, 2.60461, 2.49692, 2.4771, 2.40837],
    ],
    (None, False): [
        [2.6933, 2.71689, 2.46731, 2.67526, 2.84684],
        [2.61131, 2.69171, 2.29361, 2.51394, 2.46827],
        [2.80196, 2.64054, 2.48633, 2.49238, 2.3898],
    ],
    ("ADNI", True): [
        [2.651, 2.717, 2.514, 2.683, 2.783],
        [2.57763, 2.6999, 2.30237, 2.51125, 2.43776],
        [2.72344, 2.58237, 2.51898, 2.49175, 2.4188],
    ],
    ("ADNI", False): [
        [2.651, 2.717, 2.514, 2.683, 2.783],
        [2.56298, 2.67904, 2.34986, 2.52139, 2.48653],
        [2.78559, 2.62684, 2.53335, 2.52265, 2.40431],
    ],
}


@pytest.mark.parametrize(("reference", "shrinkage"), PUBLISHED)
def test_combat_gives_the_numbers_of_the_published_code(reference, shrinkage):
    features, sites, covariates = small()
    combat = ComBat(reference=reference, empirical_bayes=shrinkage).fit(features, sites, people(sites), covariates)
    got = combat.transform(features, sites, covariates)[[0, 10, 21]]
    assert np.abs(got - PUBLISHED[reference, shrinkage]).max() < 2e-5


def test_simulated_site_effects_go_and_the_effect_of_diagnosis_stays():
    true, seen, sites, covariates = simulated()
    got = ComBat(reference="A").fit(seen, sites, people(sites), covariates).transform(seen, sites, covariates)
    assert np.abs(got - true).mean() < 0.3 * np.abs(seen - true).mean()
    ill = (covariates["diagnosis"] == "dementia").to_numpy()

    def effect(values):
        return np.mean([values[(sites == s) & ill].mean() - values[(sites == s) & ~ill].mean() for s in "ABC"])

    assert effect(got) == pytest.approx(effect(true), abs=0.02)


def test_without_covariates_a_site_of_patients_is_made_healthy_and_with_them_it_is_not():
    true, seen, sites, covariates = simulated(older=12)
    plain = ComBat(reference="A").fit(seen, sites, people(sites)).transform(seen, sites)
    kept = ComBat(reference="A").fit(seen, sites, people(sites), covariates).transform(seen, sites, covariates)
    older = true[sites == "B"].mean() - true[sites == "A"].mean()
    assert older < -0.25
    assert abs(plain[sites == "B"].mean() - plain[sites == "A"].mean()) < 0.02
    assert kept[sites == "B"].mean() - kept[sites == "A"].mean() == pytest.approx(older, abs=0.05)


def test_the_reference_site_stays_as_it_is():
    features, sites, covariates = small()
    got = ComBat(reference="GMC").fit(features, sites, people(sites), covariates).transform(features, sites, covariates)
    assert np.allclose(got[sites == "GMC"], features[sites == "GMC"])
    assert not np.allclose(got[sites == "SMC"], features[sites == "SMC"], atol=0.05)


def test_without_shrinkage_every_site_gets_the_mean_and_spread_of_the_reference():
    _, seen, sites, _ = simulated(per_site=20)
    got = ComBat(reference="A", empirical_bayes=False).fit(seen, sites, people(sites)).transform(seen, sites)
    for site in "BC":
        assert np.allclose(got[sites == site].mean(axis=0), seen[sites == "A"].mean(axis=0))
        ratio = got[sites == site].std(axis=0, ddof=1) / seen[sites == "A"].std(axis=0)
        assert np.allclose(ratio, 1)


def test_shrinkage_lies_between_a_feature_and_all_features_and_fades_with_subjects():
    rng = np.random.default_rng(0)
    moved = []
    for n in (5, 500):
        standard = rng.normal(rng.normal(0.5, 0.3, 12), 1.2, (n, 12))
        shift, spread = standard.mean(axis=0), standard.var(axis=0, ddof=1)
        own_shift, own_spread = shrunk(standard, shift, spread)
        assert own_shift.std() < shift.std() and own_spread.std() < spread.std()
        moved.append(np.abs(own_shift - shift).mean())
    assert moved[1] < 0.1 * moved[0]


def test_a_new_subject_is_adjusted_by_the_training_subjects_numbers_alone():
    features, sites, covariates = small()
    combat = ComBat().fit(features[::2], sites[::2], people(sites[::2]), covariates.iloc[::2])
    together = combat.transform(features[1::2], sites[1::2], covariates.iloc[1::2])
    for k in range(len(together)):
        row = slice(2 * k + 1, 2 * k + 2)
        alone = combat.transform(features[row], sites[row], covariates.iloc[row])
        assert np.allclose(alone[0], together[k], rtol=0, atol=1e-12)


def test_a_test_subject_among_those_of_the_fit_is_a_leak():
    features, sites, covariates = small()
    learned = ComBat().fit(features, sites, people(sites), covariates).learned
    with pytest.raises(LeakError, match="s3"):
        forbid_leak(learned.subjects, ["s3", "s99"])


def test_units_and_order_of_subjects_make_no_difference():
    features, sites, covariates = small()

    def fit(f, s, c):
        return ComBat().fit(f, s, people(s), c).transform(f, s, c)

    got = fit(features, sites, covariates)
    order = np.random.default_rng(5).permutation(len(sites))
    assert np.allclose(fit(features[order], sites[order], covariates.iloc[order]), got[order])
    assert np.allclose(fit(1000 * features + 7, sites, covariates), 1000 * got + 7)


@pytest.mark.parametrize("with_covariates", [True, False])
def test_a_saved_combat_comes_back_as_it_was(tmp_path, with_covariates):
    features, sites, covariates = small()
    covariates = covariates if with_covariates else None
    combat = ComBat(reference="SMC").fit(features, sites, people(sites), covariates)
    combat.save(tmp_path / "combat.json")
    loaded = ComBat.load(tmp_path / "combat.json")
    assert np.array_equal(loaded.transform(features, sites, covariates), combat.transform(features, sites, covariates))
    assert loaded.reference == "SMC" and loaded.learned.subjects == combat.learned.subjects
    ComBat().save(tmp_path / "empty.json")
    assert ComBat.load(tmp_path / "empty.json") == ComBat()


def broken(**changes):
    """What `fit` takes, with something changed."""
    features, sites, covariates = small()
    return {"features": features, "sites": sites, "subjects": people(sites), "covariates": covariates} | changes


def with_value(value, row=4, column=2):
    features, _, _ = small()
    features[row, column] = value
    return features


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        ({}, {"features": with_value(np.nan)}, "1 values are not finite, the first in row 4, feature 2"),
        ({}, {"features": small()[0][:, 0]}, r"features of 22 subjects, .*got \(22,\)"),
        ({}, {"features": np.round(small()[0][:, :1])}, "needs two features or more"),
        ({}, {"features": np.hstack([small()[0], np.full((22, 1), 3.0)])}, r"features \[5\] do not vary"),
        ({}, {"sites": ["A"] * 22}, "expected two sites or more"),
        ({}, {"sites": ["A"] * 21 + ["B"]}, "of which B with one subject"),
        ({}, {"subjects": ["s1"]}, "a subject for each of 22 rows, got 1"),
        ({}, {"covariates": pd.DataFrame({"age": [70.0] * 21 + [np.nan]})}, "covariate 'age': 1 missing values"),
        ({}, {"covariates": pd.DataFrame({"age": [70.0, 71.0]})}, "of 22 subjects, got age of 2"),
        (
            {},
            {"covariates": pd.DataFrame({"d": np.where(small()[1] == "ADNI", "ill", "well")})},
            "cannot be told apart",
        ),
        ({"reference": "GSEV"}, {}, "reference site 'GSEV' is not among the sites ADNI, GMC, SMC"),
    ],
)
def test_what_cannot_be_fitted_is_refused(settings, changes, words):
    with pytest.raises(ValueError, match=words):
        ComBat(**settings).fit(**broken(**changes))


def test_what_the_fit_does_not_know_is_refused(tmp_path):
    features, sites, covariates = small()
    combat = ComBat().fit(features, sites, people(sites), covariates)
    with pytest.raises(ValueError, match="no training subject of site GSEV, fitted were ADNI, GMC, SMC"):
        combat.transform(features[:2], ["GSEV", "SMC"], covariates[:2])
    with pytest.raises(ValueError, match="covariates: expected age, sex of 22 subjects, got none"):
        combat.transform(features, sites)
    with pytest.raises(ValueError, match="unknown categories X"):
        combat.transform(features[:1], sites[:1], pd.DataFrame({"age": [70.0], "sex": ["X"]}))
    with pytest.raises(ValueError, match=r"22 subjects, 5 each, got \(22, 4\)"):
        combat.transform(features[:, :4], sites, covariates)
    with pytest.raises(ValueError, match="not fitted"):
        ComBat().transform(features, sites)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other.json: expected a saved ComBat"):
        ComBat.load(tmp_path / "other.json")
