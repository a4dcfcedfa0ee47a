"""Scores as functions of row weights, for the bootstrap of study_lib.statistics; all draws at once.

Each maker takes what was observed and returns a statistic `(draw, row) -> (draw,)`. A draw in which the score
is undefined (a class without a subject) gives NaN.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import scipy.stats

from study_lib.shapes import Weights
from study_lib.statistics import BootstrapSettings, Interval, Statistic, bootstrap


def value_of(statistic: Statistic, n_rows: int) -> float:
    """The statistic of the rows as they are."""
    return float(statistic(np.ones((1, n_rows)))[0])


def mean(values: Sequence[float]) -> Statistic:
    """The mean of one number per row."""
    values = _finite(values, "mean")
    return lambda weights: weights @ values / weights.sum(axis=1)


def accuracy(labels: Sequence, predictions: Sequence) -> Statistic:
    """The share of rows with the right label."""
    labels, predictions = _alike(labels, predictions)
    return mean(labels == predictions)


def recall(labels: Sequence, predictions: Sequence, of: Hashable) -> Statistic:
    """The share of the rows of one class that were found: sensitivity, or specificity of the other class."""
    labels, predictions = _alike(labels, predictions)
    own = (labels == of).astype(float)
    found = own * (predictions == of)
    return lambda weights: _ratio(weights @ found, weights @ own)


def balanced_accuracy(labels: Sequence, predictions: Sequence) -> Statistic:
    """The mean of the recalls of all classes."""
    labels, predictions = _alike(labels, predictions)
    return mean_recall(labels, labels == predictions)


def mean_recall(labels: Sequence, hits: Sequence[float]) -> Statistic:
    """The same where every row was answered several times, and `hits` is the share of right answers."""
    labels, hits = np.asarray(labels), _finite(hits, "mean_recall")
    if labels.shape != hits.shape:
        raise ValueError(f"mean_recall: expected one share of hits per label, got {hits.shape} for {labels.shape}")
    own = (labels[:, None] == np.unique(labels)).astype(float)
    found = own * hits[:, None]
    return lambda weights: _ratio(weights @ found, weights @ own).mean(axis=1)


def specificity(labels: Sequence, predictions: Sequence) -> Statistic:
    """The mean over classes of the share of other rows that were not called this class."""
    labels, predictions = _alike(labels, predictions)
    other = (labels[:, None] != np.unique(labels)).astype(float)
    spared = other * (predictions[:, None] != np.unique(labels))
    return lambda weights: _ratio(weights @ spared, weights @ other).mean(axis=1)


def auroc(labels: Sequence, scores: np.ndarray, positive: Hashable | None = None) -> Statistic:
    """Area under the ROC curve: of `positive` against the rest, or the mean of all one-against-rest areas.

    `scores`: one number per row for `positive`; else one column per class, in sorted order of the classes.
    """
    labels, scores = np.asarray(labels), _finite(scores, "auroc")
    if positive is not None:
        return _binary_auroc(labels == positive, scores)
    classes = np.unique(labels)
    if scores.shape != (len(labels), len(classes)):
        raise ValueError(
            f"auroc: expected scores of shape {(len(labels), len(classes))} (a column for each of "
            f"{', '.join(map(str, classes))}), got {scores.shape}; with two classes name the positive one"
        )
    areas = [_binary_auroc(labels == own, scores[:, k]) for k, own in enumerate(classes)]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def correlation(first: Sequence[float], second: Sequence[float]) -> Statistic:
    """Pearson's r."""
    x, y = (_centred(values, "correlation") for values in (first, second))

    def of(weights: Weights) -> np.ndarray:
        n = weights.sum(axis=1)
        mx, my = weights @ x / n, weights @ y / n
        cross = weights @ (x * y) / n - mx * my
        return _ratio(cross, np.sqrt((weights @ x**2 / n - mx**2) * (weights @ y**2 / n - my**2)))

    return of


def intraclass_correlation(ratings: np.ndarray) -> Statistic:
    """ICC(2,1): agreement of single raters (columns) over subjects (rows); Shrout and Fleiss 1979."""
    ratings = _centred(ratings, "intraclass_correlation")
    if ratings.ndim != 2 or ratings.shape[1] < 2:
        raise ValueError(f"intraclass_correlation: expected (subject, rater), got shape {ratings.shape}")
    k, row_mean, square = ratings.shape[1], ratings.mean(axis=1), (ratings**2).sum(axis=1)

    def of(weights: Weights) -> np.ndarray:
        n = weights.sum(axis=1)
        grand = weights @ row_mean / n
        columns = weights @ ratings / n[:, None]
        between = k * (weights @ row_mean**2 - n * grand**2)
        raters = n * ((columns - grand[:, None]) ** 2).sum(axis=1)
        total = weights @ square - n * k * grand**2
        subject_ms, rater_ms = between / (n - 1), raters / (k - 1)
        error_ms = (total - between - raters) / ((n - 1) * (k - 1))
        spread = subject_ms + (k - 1) * error_ms + k * (rater_ms - error_ms) / n
        return _ratio(subject_ms - error_ms, spread)

    return of


def agreement_limit(first: Sequence[float], second: Sequence[float], quantile: float = 0.5) -> Statistic:
    """Bland and Altman: mean of first - second, plus z(quantile) times its sd; 0.5 gives the bias itself."""
    difference = _finite(first, "agreement_limit") - _finite(second, "agreement_limit")
    z = float(scipy.stats.norm.ppf(quantile))

    def of(weights: Weights) -> np.ndarray:
        n = weights.sum(axis=1)
        bias = weights @ difference / n
        variance = (weights @ difference**2 - n * bias**2) / (n - 1)
        return bias + z * np.sqrt(np.clip(variance, 0, None))

    return of


def resampled(metric: Callable[..., float], *columns: Sequence) -> Statistic:
    """Any other metric of columns, one call per draw on the repeated rows: slow, but always right."""
    columns = tuple(np.asarray(column) for column in columns)

    def of(weights: Weights) -> np.ndarray:
        rows = (np.repeat(np.arange(len(row)), row.astype(int)) for row in weights)
        return np.array([metric(*(column[drawn] for column in columns)) for drawn in rows], dtype=float)

    return of


def limits_of_agreement(
    first: Sequence[float],
    second: Sequence[float],
    subjects: Sequence | None = None,
    settings: BootstrapSettings | None = None,
) -> dict[str, Interval]:
    """Bias and the limits between which 95 % of the differences lie, each with its interval."""
    subjects = np.arange(len(first)) if subjects is None else subjects
    quantiles = {"bias": 0.5, "lower limit": 0.025, "upper limit": 0.975}
    return {
        name: bootstrap(agreement_limit(first, second, quantile), subjects, settings=settings)
        for name, quantile in quantiles.items()
    }


def classification_summary(
    labels: Sequence,
    predictions: Sequence,
    scores: np.ndarray | None = None,
    positive: Hashable | None = None,
    subjects: Sequence | None = None,
    settings: BootstrapSettings | None = None,
) -> dict[str, Interval | float]:
    """Every score that a result table needs; intervals over subjects, drawn within classes.

    Two classes need `positive`; with more, sensitivity and specificity are means over the classes.
    """
    labels, predictions = _alike(labels, predictions)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or (len(classes) == 2 and positive not in classes):
        raise ValueError(f"expected two classes or more, and of two the positive one; got {classes}, {positive!r}")
    statistics = classification_statistics(labels, predictions, scores, positive if len(classes) == 2 else None)
    subjects = np.arange(len(labels)) if subjects is None else subjects
    pairs = {(subject, label) for subject, label in zip(subjects, labels, strict=True)}
    # a travelling subject has several site labels, and cannot be drawn within one
    strata = labels if len(pairs) == len(set(subjects)) else None
    summary = {name: bootstrap(of, subjects, strata, settings) for name, of in statistics.items()}
    return {**summary, "majority_rate": float(counts.max() / counts.sum()), "chance": 1 / len(classes)}


def classification_statistics(
    labels: np.ndarray, predictions: np.ndarray, scores: np.ndarray | None, positive: Hashable | None
) -> dict[str, Statistic]:
    """Those of `classification_summary`, as functions of row weights; `positive` None: means over the classes."""
    balanced = balanced_accuracy(labels, predictions)
    statistics = {"accuracy": accuracy(labels, predictions), "balanced_accuracy": balanced}
    if positive is None:
        statistics |= {"sensitivity": balanced, "specificity": specificity(labels, predictions)}
    else:
        sides = {"sensitivity": labels == positive, "specificity": labels != positive}
        of_one_class = {name: labels[own] for name, own in sides.items() if own.any()}  # few people may be all of one
        statistics |= {name: recall(labels, predictions, own[0]) for name, own in of_one_class.items()}
    return statistics if scores is None else {**statistics, "auroc": auroc(labels, scores, positive)}


def _binary_auroc(is_positive: np.ndarray, scores: np.ndarray) -> Statistic:
    """Pairs of a positive and a negative in the right order, ties half; rows of one score are one group."""
    if scores.shape != is_positive.shape:
        raise ValueError(f"auroc: expected one score per row, shape {is_positive.shape}, got {scores.shape}")
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    truth = is_positive[order].astype(float)

    def of(weights: Weights) -> np.ndarray:
        ordered = weights[:, order]
        positives = np.add.reduceat(ordered * truth, starts, axis=1)
        negatives = np.add.reduceat(ordered * (1 - truth), starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))

    return of


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def _alike(labels: Sequence, predictions: Sequence) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"expected one prediction per label, got {predictions.shape} for {labels.shape}")
    if (labels.dtype.kind in "UOT") != (predictions.dtype.kind in "UOT"):
        raise ValueError(f"labels are {labels.dtype}, predictions {predictions.dtype}: text never equals numbers")
    return labels, predictions


def _finite(values: Sequence[float], what: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise ValueError(f"{what}: {bad} of {values.size} numbers are NaN or infinite; leave them out by name")
    return values


def _centred(values: Sequence[float], what: str) -> np.ndarray:
    # these statistics do not see a shift; near zero the sums of squares lose no digits
    values = _finite(values, what)
    return values - values.mean()
