"""Uncertainty with its unit: bootstrap over subjects, within-site permutation, corrected tests.

A statistic here is a function of row weights, `(draw, row) -> (draw,)` (study_lib.scores makes them): a
bootstrap draw is how many times each row's subject was drawn, so thousands of draws are one matrix product.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats

from study_lib.shapes import Weights

Statistic = Callable[[Weights], np.ndarray]
BATCH_ENTRIES = 2_000_000  # weights held at once: 16 MB per float64 matrix


@dataclass(frozen=True)
class Interval:
    """A number with its interval, and over what it was taken."""

    value: float
    low: float
    high: float
    unit: str = "subjects"
    n: int = 0
    level: float = 0.95
    method: str = ""

    def __str__(self) -> str:
        return (
            f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] "
            f"({self.level:.0%}, {self.method}, {self.n} {self.unit})"
        )

    def excludes(self, number: float) -> bool:
        """Whether the number lies outside the interval."""
        return not self.low <= number <= self.high


@dataclass(frozen=True)
class BootstrapSettings:
    """How many draws, how wide, which interval, which seed."""

    draws: int = 2000
    level: float = 0.95
    method: Literal["percentile", "BCa"] = "percentile"
    seed: int = 0


@dataclass(frozen=True)
class PermutationTest:
    """The observed value, the share of shuffles at least as high, and the middle 95 % of the shuffles."""

    value: float
    p_value: float
    null_low: float
    null_high: float
    draws: int
    n: int
    unit: str = "subjects"


@dataclass(frozen=True)
class PairedTest:
    """A mean difference over repeated splits, with Student's t after a correction."""

    difference: Interval
    t: float
    p_value: float


def bootstrap(
    statistic: Statistic,
    subjects: Sequence,
    strata: Sequence | None = None,
    settings: BootstrapSettings | None = None,
) -> Interval:
    """Interval of a statistic over subjects, whose rows are drawn together (by scipy.stats.bootstrap).

    `subjects` and `strata` have one entry per row; with strata, subjects are drawn within each stratum.
    """
    settings = settings or BootstrapSettings()
    names, subject_of_row = np.unique(np.asarray(subjects), return_inverse=True)
    samples, always = _samples(subject_of_row, strata, names)

    def of_drawn(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        fixed = np.broadcast_to(always, (*drawn[0].shape[:-1], len(always)))
        indices = np.concatenate([*drawn, fixed], axis=-1)
        values = statistic(_row_weights(np.atleast_2d(indices), subject_of_row, len(names)))
        return values if indices.ndim > 1 else values[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)  # settled in _ends
        result = scipy.stats.bootstrap(
            samples,
            of_drawn,
            n_resamples=settings.draws,
            batch=max(1, BATCH_ENTRIES // len(subject_of_row)),
            vectorized=True,
            confidence_level=settings.level,
            method=settings.method,
            rng=np.random.default_rng(settings.seed),
        )
    value = float(statistic(np.ones((1, len(subject_of_row))))[0])
    method = f"{settings.method} bootstrap" + (", stratified" if strata is not None else "")
    return Interval(value, *_ends(result, value), n=len(names), level=settings.level, method=method)


def paired_difference(
    first: Statistic,
    second: Statistic,
    subjects: Sequence,
    strata: Sequence | None = None,
    settings: BootstrapSettings | None = None,
) -> Interval:
    """Interval of first minus second; every draw holds the same subjects for both methods."""
    return bootstrap(lambda weights: first(weights) - second(weights), subjects, strata, settings)


def within_site_permutation(
    metric: Callable[[np.ndarray], float],
    labels: Sequence,
    sites: Sequence,
    subjects: Sequence | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> PermutationTest:
    """Is `metric(labels)` higher than with labels shuffled among the subjects of each site?

    All rows of a subject keep one label. The p-value counts the observed order as one of the shuffles.
    """
    labels, sites = np.asarray(labels), np.asarray(sites)
    subjects = np.arange(len(labels)) if subjects is None else np.asarray(subjects)
    _, first_row, subject_of_row = np.unique(subjects, return_index=True, return_inverse=True)
    for name, values in (("label", labels), ("site", sites)):
        _check_one_value(name, values, values[first_row][subject_of_row], subjects)
    of_subject, site_of_subject = labels[first_row], sites[first_row]
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    for draw in range(draws):
        null[draw] = metric(_shuffled_within(of_subject, site_of_subject, rng)[subject_of_row])
    value = float(metric(labels))
    p_value = (1 + np.count_nonzero(null >= value - 1e-12)) / (1 + draws)
    low, high = np.quantile(null, [0.025, 0.975])
    return PermutationTest(value, float(p_value), float(low), float(high), draws, len(first_row))


def corrected_resampled_t(differences: Sequence[float], n_train: int, n_test: int, level: float = 0.95) -> PairedTest:
    """Student's t over repeated splits whose training sets overlap (Nadeau and Bengio 2003).

    The variance of the mean is (1/J + n_test/n_train) s^2 instead of s^2/J: overlap makes repeats alike.
    """
    differences = np.asarray(differences, dtype=float)
    repeats = len(differences)
    if repeats < 2 or not np.isfinite(differences).all():
        raise ValueError(f"corrected_resampled_t: expected two or more finite differences, got {differences}")
    mean = float(differences.mean())
    error = float(np.sqrt((1 / repeats + n_test / n_train) * differences.var(ddof=1)))
    t = mean / error if error > 0 else float(np.sign(mean)) * np.inf if mean else 0.0
    half = float(scipy.stats.t.ppf((1 + level) / 2, repeats - 1)) * error
    p_value = float(2 * scipy.stats.t.sf(abs(t), repeats - 1))
    method = "corrected resampled t"
    return PairedTest(Interval(mean, mean - half, mean + half, "repeats", repeats, level, method), t, p_value)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number (Holm 1979), in the order given."""
    p_values = np.asarray(p_values, dtype=float)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"holm: expected p-values in [0, 1], got {p_values}")
    order = np.argsort(p_values)
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def chance_interval(n: int, probability: float = 0.5, level: float = 0.95) -> Interval:
    """Where the accuracy of pure guessing over n subjects falls (binomial)."""
    if n < 1 or not 0 < probability < 1:
        raise ValueError(f"chance_interval: expected n >= 1 and 0 < probability < 1, got {n}, {probability}")
    low, high = scipy.stats.binom.interval(level, n, probability)
    return Interval(probability, float(low) / n, float(high) / n, n=n, level=level, method="binomial")


def _samples(
    subject_of_row: np.ndarray, strata: Sequence | None, names: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Subject numbers per stratum, and those alone in theirs: drawing one from one always gives it."""
    if len(names) < 2:
        raise ValueError(f"bootstrap: expected at least two subjects, got {len(names)}")
    if strata is None:
        return [np.arange(len(names))], np.empty(0, dtype=int)
    strata = np.asarray(strata)
    of_subject = np.empty(len(names), dtype=strata.dtype)
    of_subject[subject_of_row] = strata
    _check_one_value("stratum", strata, of_subject[subject_of_row], names[subject_of_row])
    groups = [np.flatnonzero(of_subject == stratum) for stratum in np.unique(of_subject)]
    drawn = [group for group in groups if len(group) > 1]
    if not drawn:
        raise ValueError("bootstrap: every stratum has one subject; use coarser strata, or none")
    return drawn, np.concatenate([np.empty(0, dtype=int), *(group for group in groups if len(group) == 1)])


def _row_weights(indices: np.ndarray, subject_of_row: np.ndarray, n_subjects: int) -> Weights:
    """How often each row's subject is among the drawn ones."""
    draws = len(indices)
    flat = (indices + n_subjects * np.arange(draws)[:, None]).ravel()
    counts = np.bincount(flat, minlength=draws * n_subjects).reshape(draws, n_subjects)
    return counts[:, subject_of_row].astype(float)


def _ends(result: object, value: float) -> tuple[float, float]:
    undefined = int(np.isnan(result.bootstrap_distribution).sum())
    if undefined or np.isnan(value):
        raise ValueError(
            f"bootstrap: the statistic is undefined in {undefined} of {len(result.bootstrap_distribution)} "
            "draws (a class without a subject, or no spread); draw within classes (strata=labels), "
            "or merge classes"
        )
    if np.ptp(result.bootstrap_distribution) == 0:
        return value, value  # BCa has no answer here, and none is needed
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _shuffled_within(labels: np.ndarray, sites: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # sorting random keys within sites gives every order within a site the same chance
    shuffled, by_site = np.empty_like(labels), np.argsort(sites, kind="stable")
    shuffled[by_site] = labels[np.lexsort((rng.random(len(labels)), sites))]
    return shuffled


def _check_one_value(name: str, values: np.ndarray, expected: np.ndarray, subjects: np.ndarray) -> None:
    several = np.unique(subjects[values != expected])
    if len(several):
        raise ValueError(f"subjects with more than one {name}: {', '.join(map(str, several[:10]))}; give one")
