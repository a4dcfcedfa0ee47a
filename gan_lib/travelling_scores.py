"""What the scores of travelling subjects say: means over pairs of sites, intervals over subjects, names of metrics.

A score of a method is the mean over subjects for each ordered pair of sites, then the mean over the pairs: a pair
with fewer subjects counts no less. In a bootstrap draw that has no subject of some pair, that pair is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gan_lib.similarity import METRICS, Metric
from gan_lib.travelling import BEFORE, RESCAN
from study_lib.shapes import Weights
from study_lib.statistics import BootstrapSettings, Interval, Statistic, bootstrap

PAIR = ["source", "target"]
ERROR = "mae"  # what decides whether a pair has improved


def read_scores(path: str | Path) -> pd.DataFrame:
    """Scores that were saved as CSV, digit for digit; names stay text whatever they look like."""
    text = {name: str for name in ("method", "subject", *PAIR)}
    return pd.read_csv(path, dtype=text, keep_default_na=False)


def mean_over_pairs(values: Sequence[float], pairs: Sequence) -> Statistic:
    """The mean over pairs of the mean over rows, as a function of row weights."""
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError("a score is NaN or infinite (PSNR of equal images is): leave that metric out by name")
    own = np.asarray(pd.get_dummies(pd.Series(list(pairs)), dtype=float))

    def of(weights: Weights) -> np.ndarray:
        total, count = weights @ (own * values[:, None]), weights @ own
        means = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return means.sum(axis=1) / (count > 0).sum(axis=1)

    return of


def score(rows: pd.DataFrame, metric: str, settings: BootstrapSettings | None = None) -> Interval:
    """The mean over pairs of one method's rows; of a single subject there is no interval (NaN)."""
    statistic = mean_over_pairs(rows[metric], zip(rows["source"], rows["target"], strict=True))
    n = rows["subject"].nunique()
    if n < 2:
        return Interval(float(statistic(np.ones((1, len(rows))))[0]), np.nan, np.nan, n=n, method="one subject")
    return bootstrap(statistic, rows["subject"], settings=settings)


def gain(
    scores: pd.DataFrame, method: str, metric: str, against: str = BEFORE, settings: BootstrapSettings | None = None
) -> Interval:
    """How much higher a method's score is than another's, paired: the same subjects and pairs in every draw."""
    keys = ["subject", *PAIR]
    first, second = (_rows(scores, name).set_index(keys)[metric] for name in (method, against))
    if set(first.index) != set(second.index):
        raise ValueError(f"{method} and {against} were not scored on the same pairs; evaluate them together")
    return score((first - second.reindex(first.index)).reset_index(), metric, settings)


def method_table(
    scores: pd.DataFrame, metrics: Mapping[str, Metric] = METRICS, settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """One row per method and metric: the mean over the pairs of sites, and its interval over subjects."""
    return _table(scores, [], metrics, settings)


def pair_table(
    scores: pd.DataFrame, metrics: Mapping[str, Metric] = METRICS, settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """The same for every ordered pair of sites."""
    return _table(scores[scores["method"] != RESCAN], PAIR, metrics, settings)


def institution_table(
    scores: pd.DataFrame,
    by: str = "target",
    metrics: Mapping[str, Metric] = METRICS,
    settings: BootstrapSettings | None = None,
) -> pd.DataFrame:
    """The same for every site: `by` its scans as the `target` that is aimed at, or as the `source`."""
    if by not in PAIR:
        raise ValueError(f"by: expected one of {', '.join(PAIR)}, got {by!r}")
    return _table(scores, [by], metrics, settings)


def pair_matrix(scores: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Source sites down, target sites across, means over subjects; the diagonal is empty."""
    return _rows(scores, method).pivot_table(index="source", columns="target", values=metric, aggfunc="mean")


def pairs_improved(scores: pd.DataFrame, method: str) -> int:
    """In how many ordered pairs of sites the mean error over subjects is lower than doing nothing leaves it."""
    before, after = (_rows(scores, name).groupby(PAIR)[ERROR].mean() for name in (BEFORE, method))
    return int((after < before).sum())


def travelling_metrics(
    scores: pd.DataFrame, main: str, metrics: Mapping[str, Metric] = METRICS, settings: BootstrapSettings | None = None
) -> dict[str, float]:
    """Flat names: `ssim_before`, `ssim_after` (of `main`), `ssim_after_<other>`, `ssim_rescan`, `pairs_improved`, …

    Each with `_low` and `_high` where there are two subjects or more. `<metric>_way_to_rescan`: how much of the way
    from doing nothing to the rescan the main method goes (1: all of it).
    """
    table = method_table(scores, metrics, settings)
    names = {method: method if method in (BEFORE, RESCAN) else f"after_{method}" for method in table["method"]}
    names[main] = "after"
    result = {}
    for row in table.itertuples():
        numbers = {"": row.value, "_low": row.low, "_high": row.high}
        result |= {f"{row.metric}_{names[row.method]}{end}": n for end, n in numbers.items() if np.isfinite(n)}
    for method in (name for name in names if name not in (BEFORE, RESCAN)):
        result[f"pairs_improved{names[method].removeprefix('after')}"] = pairs_improved(scores, method)
    for metric in metrics if RESCAN in names else ():
        before, after, rescan = (result[f"{metric}_{name}"] for name in (BEFORE, "after", RESCAN))
        if before != rescan:
            result[f"{metric}_way_to_rescan"] = (after - before) / (rescan - before)
    result["pairs"] = len(_rows(scores, BEFORE).drop_duplicates(PAIR))
    return result


def _table(
    scores: pd.DataFrame, by: list[str], metrics: Mapping[str, Metric], settings: BootstrapSettings | None
) -> pd.DataFrame:
    rows = []
    for key, own in scores.groupby([*by, "method"], sort=False):
        for metric in metrics:
            interval = score(own, metric, settings)
            numbers = {"value": interval.value, "low": interval.low, "high": interval.high, "subjects": interval.n}
            rows.append(dict(zip([*by, "method"], key, strict=True)) | {"metric": metric} | numbers)
    return pd.DataFrame(rows)


def _rows(scores: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = scores[scores["method"] == method]
    if rows.empty:
        raise KeyError(f"no scores of {method!r}: there are {', '.join(scores['method'].unique())}")
    return rows
