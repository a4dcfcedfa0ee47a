"""Is biology kept? Age and diagnosis in regional features before and after harmonisation, with intervals over subjects.

Everything takes arrays of one row per subject. "Effect of diagnosis" is Cohen's d, patients minus controls over the
pooled standard deviation: negative where patients' cortex is thinner.

The negative control: when diagnosis differs between the sites that a method was trained on, it may take disease for a
site's look and paint it onto the controls that it sends there (Cohen, Luck and Honari 2018, MICCAI). `confounded` picks
such training subjects, and `painted_disease` measures how much of the disease controls have got.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gan_lib.covariates import CovariateCode
from study_lib import scores
from study_lib.shapes import Weights
from study_lib.statistics import BootstrapSettings, Interval, Statistic, bootstrap, paired_difference

Features = Float[np.ndarray, "subject feature"]
PerSubject = Float[np.ndarray, "subject"]
Patients = Bool[np.ndarray, "subject"]
PENALTIES = np.logspace(-2, 5, 15)  # of the ridge on standardised features; chosen inside every training part


@dataclass(frozen=True)
class AgeRegression:
    """Age predicted out of fold, before and after harmonisation: errors in years, and the share of variance."""

    predicted_before: PerSubject
    predicted_after: PerSubject
    mae_before: Interval
    mae_after: Interval
    mae_change: Interval  # after minus before, paired: negative is better
    r2_before: Interval
    r2_after: Interval


@dataclass(frozen=True)
class DiagnosisEffect:
    """Cohen's d of every region before and after, and the mean over the regions asked for."""

    regions: pd.DataFrame  # before, before_low, before_high, after, after_low, after_high
    mean_before: Interval
    mean_after: Interval
    mean_change: Interval  # after minus before, paired


def age_regression(
    before: Features,
    after: Features,
    ages: Sequence[float],
    groups: Sequence | None = None,
    folds: int | None = 5,
    settings: BootstrapSettings | None = None,
) -> AgeRegression:
    """Ridge regression of age, once on each kind of features and in the same folds; see `predicted_ages`."""
    ages, subjects = np.asarray(ages, dtype=float), np.arange(len(ages))
    predicted = [predicted_ages(features, ages, groups, folds) for features in (before, after)]
    errors = [scores.mean(np.abs(p - ages)) for p in predicted]
    shares = [determination(ages, p) for p in predicted]
    mae, r2 = ([bootstrap(s, subjects, settings=settings) for s in both] for both in (errors, shares))
    change = paired_difference(errors[1], errors[0], subjects, settings=settings)
    return AgeRegression(*predicted, *mae, change, *r2)


def predicted_ages(
    features: Features, ages: Sequence[float], groups: Sequence | None = None, folds: int | None = 5
) -> PerSubject:
    """Age of every subject from a model that has not seen the subject's group.

    `groups`: families by default each their own; with sites and `folds=None` (one group out at a time) the model is
    asked about a site it has never seen. The penalty is chosen by leave-one-out inside the training part.
    """
    features, ages = _features(features), np.asarray(ages, dtype=float)
    groups = np.arange(len(ages)) if groups is None else np.asarray(groups)
    if not len(features) == len(ages) == len(groups) or not np.isfinite(ages).all():
        raise ValueError(
            f"age regression: expected a finite age and a group for each of {len(features)} subjects, got {len(ages)} "
            f"ages, {int((~np.isfinite(ages)).sum())} of them not finite, and {len(groups)} groups"
        )
    n_groups, needed = len(np.unique(groups)), folds or 2
    if n_groups < needed:
        raise ValueError(f"age regression: expected at least {needed} groups, got {n_groups}; use fewer folds")
    parts = GroupKFold(folds, shuffle=True, random_state=0) if folds else LeaveOneGroupOut()
    predicted = np.empty(len(ages))
    for train, test in parts.split(features, ages, groups):
        model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(features[train], ages[train])
        predicted[test] = model.predict(features[test])
    return predicted


def determination(observed: Sequence[float], predicted: Sequence[float]) -> Statistic:
    """R squared: 1 for perfect prediction, 0 for the mean, below 0 for worse."""
    y, p = np.asarray(observed, dtype=float), np.asarray(predicted, dtype=float)
    y, p = y - y.mean(), p - y.mean()

    def of(weights: Weights) -> np.ndarray:
        n = weights.sum(axis=1)
        total = weights @ y**2 - (weights @ y) ** 2 / n
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(total > 1e-12, 1 - weights @ (y - p) ** 2 / total, np.nan)

    return of


def diagnosis_effect(
    before: Features,
    after: Features,
    patients: Patients,
    covariates: pd.DataFrame | None = None,
    of_interest: Sequence[int] | None = None,
    settings: BootstrapSettings | None = None,
) -> DiagnosisEffect:
    """Effect of diagnosis in every region, and its mean over the regions `of_interest` (all by default).

    `covariates` (age, sex, before harmonisation also site) are regressed out beside diagnosis, on all subjects.
    """
    before, after = (adjusted(features, patients, covariates) for features in (before, after))
    if before.shape != after.shape:
        raise ValueError(f"diagnosis effect: expected equal tables, got {before.shape} before and {after.shape} after")
    patients = np.asarray(patients, dtype=bool)
    settings = settings or BootstrapSettings()
    rows = np.arange(len(patients))
    table = {}
    for name, features in (("before", before), ("after", after)):
        drawn = [bootstrap(cohens_d(column[:, None], patients), rows, patients, settings) for column in features.T]
        table |= {name: [i.value for i in drawn], f"{name}_low": [i.low for i in drawn]}
        table |= {f"{name}_high": [i.high for i in drawn]}
    columns = slice(None) if of_interest is None else list(of_interest)
    means = [cohens_d(features[:, columns], patients) for features in (before, after)]
    change = paired_difference(means[1], means[0], rows, patients, settings)
    return DiagnosisEffect(pd.DataFrame(table), *(bootstrap(m, rows, patients, settings) for m in means), change)


def cohens_d(features: Features, patients: Patients) -> Statistic:
    """The mean over regions of Cohen's d: patients minus controls, over the pooled standard deviation."""
    features, patients = _features(features), np.asarray(patients, dtype=bool)
    if patients.shape != (len(features),) or min(patients.sum(), (~patients).sum()) < 2:
        raise ValueError(
            f"Cohen's d: expected two patients and two controls or more among {len(features)} subjects, got "
            f"{int(patients.sum())} patients of {patients.size}"
        )
    centred = features - features.mean(axis=0)

    def of(weights: Weights) -> np.ndarray:
        means, squares, counts = [], 0.0, weights.sum(axis=1, keepdims=True)
        for group in (patients, ~patients):
            n = weights[:, group].sum(axis=1, keepdims=True)
            means.append(weights[:, group] @ centred[group] / n)
            squares = squares + weights[:, group] @ centred[group] ** 2 - n * means[-1] ** 2
        pooled = np.sqrt(np.clip(squares, 0, None) / (counts - 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(pooled > 0, (means[0] - means[1]) / pooled, np.nan).mean(axis=1)

    return of


def adjusted(features: Features, patients: Patients, covariates: pd.DataFrame | None) -> Features:
    """Features without what covariates explain, diagnosis held beside them, so that it loses nothing to them."""
    features = _features(features)
    columns = CovariateCode.of(covariates).encode(covariates, len(features))
    columns = columns - columns.mean(axis=0)
    design = np.column_stack([np.ones(len(features)), np.asarray(patients, dtype=float), columns])
    if np.linalg.matrix_rank(design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)) < design.shape[1]:
        raise ValueError(
            "diagnosis effect: diagnosis and covariates cannot be told apart (all patients at one site, say); "
            "leave the covariate out, or use subjects that overlap in it"
        )
    return features - columns @ np.linalg.lstsq(design, features, rcond=None)[0][2:]


def confounded(patients: Patients, sites: Sequence[str], patients_at: str, controls_at: str) -> Patients:
    """Who stays for a training in which diagnosis is site: patients of one site, controls of the other."""
    patients, sites = np.asarray(patients, dtype=bool), np.asarray(sites)
    chosen = ((sites == patients_at) & patients) | ((sites == controls_at) & ~patients)
    counts = {f"patients at {patients_at}": chosen & patients, f"controls at {controls_at}": chosen & ~patients}
    missing = [name for name, who in counts.items() if not who.any()]
    if missing:
        raise ValueError(f"confounded: no {' and no '.join(missing)}; sites are {', '.join(sorted(set(sites)))}")
    return chosen


def painted_disease(
    harmonised: Features, expected: Features, disease: Sequence[float], settings: BootstrapSettings | None = None
) -> Interval:
    """How much of the disease harmonisation has put onto controls: 0 none, 1 all of it, below 0 the opposite.

    Rows are controls. `expected`: where they belong at the target: the truth of the phantom, the real scan of a
    travelling subject, or the same subjects by a method trained on balanced sites; not their scans before, since a
    legitimate site effect moves these too. `disease`: mean difference of patients and controls in each region, from
    other subjects. Each subject's distance from `expected` is projected on it.
    """
    harmonised, expected, disease = _features(harmonised), _features(expected), np.asarray(disease, dtype=float)
    size = float(disease @ disease) if disease.shape == harmonised.shape[1:] else 0.0
    if harmonised.shape != expected.shape or not size > 0:
        raise ValueError(
            f"painted disease: expected two tables of one shape and a difference for each region, not all 0; got "
            f"{harmonised.shape}, {expected.shape} and {disease.shape}"
        )
    shares = (harmonised - expected) @ disease / size
    return bootstrap(scores.mean(shares), np.arange(len(shares)), settings=settings)


def _features(features: Features) -> Features:
    features = np.asarray(features, dtype=float)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(
            f"features: expected finite numbers (subject, region), got shape {features.shape} with "
            f"{int((~np.isfinite(features)).sum())} that are not finite; leave these subjects or regions out, by name"
        )
    return features
