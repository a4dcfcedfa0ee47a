"""Region series to functional networks, as a scikit-learn transformer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cinp_lib.connectivity.covariance import (
    Shrinkage,
    completed,
    covariance,
    geometric_mean,
    on_eigenvalues,
    partial_correlation,
    pearson,
)
from cinp_lib.connectivity.series import constant
from study_lib.shapes import Networks

Kind = Literal["correlation", "partial", "tangent"]
KINDS: tuple[Kind, ...] = ("correlation", "partial", "tangent")
FEWEST_VOLUMES = 3  # over two, every correlation is 1 or -1
# Correlations of 1 would become infinite; 1e-7 is where float32 stops telling them from 1.
LARGEST_CORRELATION = 1 - 1e-7


class FunctionalConnectivity(TransformerMixin, BaseEstimator):
    """List of (time, region) arrays in, (subject, region, region) out.

    Parameters
    ----------
    kind : `correlation`, plain Pearson as in the study; `partial`; or `tangent`, the deviation from a reference
        that `fit` learns: give it training subjects only. The diagonal is 1; tangent's is a deviation like the rest.
    fisher_z : replace off-diagonal values by their arctanh, clipped at a correlation of 1 - 1e-7; the diagonal stays 1.
    shrinkage : covariance estimator of `partial` and `tangent`: `ledoit_wolf`, as nilearn's default, or `none`.
        It depends on the units of the series, so standardise them first (`bold_series` does).

    Attributes
    ----------
    missing_ : (subject, region) of the last call: constant regions, or regions with a value that is not finite.
        Their rows and columns are 0, the diagonal included. `partial` leaves them out of the inverse. For `tangent` the
        reference is learned from training subjects without missing regions, and a missing region is taken to be where
        the reference predicts it from the others.
    reference_ : the geometric mean of the training subjects' covariances (`tangent`).
    """

    def __init__(
        self, kind: Kind = "correlation", fisher_z: bool = False, shrinkage: Shrinkage = "ledoit_wolf"
    ) -> None:
        self.kind = kind
        self.fisher_z = fisher_z
        self.shrinkage = shrinkage

    def fit(self, X: Sequence[np.ndarray], y: object = None) -> "FunctionalConnectivity":
        """Check the settings and the series; for `tangent`, learn the reference from these subjects."""
        self._check_settings()
        series = _checked(X)
        self.n_features_in_ = series[0].shape[1]
        self.missing_ = np.array([constant(s) for s in series])
        if self.kind == "tangent":
            self._learn_reference(series)
        return self

    def transform(self, X: Sequence[np.ndarray]) -> Networks:
        """The networks of these subjects; one is enough for any kind."""
        check_is_fitted(self, "n_features_in_")
        series = _checked(X, self.n_features_in_)
        self.missing_ = np.array([constant(s) for s in series])
        networks = np.zeros((len(series), self.n_features_in_, self.n_features_in_))
        for number, (own, gone) in enumerate(zip(series, self.missing_, strict=True)):
            if (~gone).sum() < 2:
                raise ValueError(
                    f"subject {number}: expected at least two regions that vary, got {(~gone).sum()} of {len(gone)}; "
                    "leave the subject out, and see why its series are constant or NaN"
                )
            networks[number][np.ix_(~gone, ~gone)] = self._network(own[:, ~gone], ~gone, number)
        if self.fisher_z:
            diagonal = networks[:, np.eye(self.n_features_in_, dtype=bool)]
            networks = np.arctanh(np.clip(networks, -LARGEST_CORRELATION, LARGEST_CORRELATION))
            networks[:, np.eye(self.n_features_in_, dtype=bool)] = diagonal
        return networks

    def _network(self, series: np.ndarray, present: np.ndarray, number: int) -> np.ndarray:
        if self.kind == "correlation":
            return pearson(series)
        matrix = self._covariance(series, number)
        if self.kind == "partial":
            return partial_correlation(matrix)
        full = completed(matrix, present, self.reference_)
        deviation = on_eigenvalues(np.log, self.whitening_ @ full @ self.whitening_)
        return deviation[np.ix_(present, present)]

    def _covariance(self, series: np.ndarray, number: int) -> np.ndarray:
        matrix = covariance(series, self.shrinkage)
        smallest = linalg.eigvalsh(matrix, subset_by_index=[0, 0])[0]
        if smallest <= 1e-12 * np.trace(matrix) / len(matrix):
            raise ValueError(
                f"subject {number}: the covariance of {series.shape[1]} regions over {len(series)} volumes has no "
                f"inverse, which kind={self.kind!r} needs; use shrinkage='ledoit_wolf', or longer series"
            )
        return matrix

    def _learn_reference(self, series: list[np.ndarray]) -> None:
        complete = [n for n, gone in enumerate(self.missing_) if not gone.any()]
        if not complete:
            often = np.flatnonzero(self.missing_.mean(axis=0) == self.missing_.mean(axis=0).max())
            raise ValueError(
                "tangent: expected a training subject without missing regions, got none of "
                f"{len(series)}; leave out the regions that are missing most often (columns {often[:8].tolist()})"
            )
        self.reference_ = geometric_mean(np.array([self._covariance(series[n], n) for n in complete]))
        self.whitening_ = on_eigenvalues(lambda values: 1 / np.sqrt(values), self.reference_)

    def _check_settings(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.shrinkage not in ("ledoit_wolf", "none"):
            raise ValueError(f"shrinkage: expected ledoit_wolf or none, got {self.shrinkage!r}")
        if self.fisher_z and self.kind == "tangent":
            raise ValueError(
                "fisher_z: expected kind correlation or partial, got tangent, whose values are not bounded"
            )


def _checked(X: Sequence[np.ndarray], n_regions: int | None = None) -> list[np.ndarray]:
    if isinstance(X, np.ndarray) and X.ndim == 2:
        raise ValueError("series: expected a list of (time, region) arrays, got one array; put it in a list: [series]")
    series = [np.asarray(own, dtype=np.float64) for own in X]
    if not series:
        raise ValueError("series: expected at least one subject, got an empty list")
    n_regions = n_regions or (series[0].shape[1] if series[0].ndim == 2 else 0)
    for number, own in enumerate(series):
        if own.ndim != 2 or own.shape[1] != n_regions or len(own) < FEWEST_VOLUMES:
            raise ValueError(
                f"subject {number}: expected (time, region) series of {n_regions} regions and at least "
                f"{FEWEST_VOLUMES} volumes, got shape {own.shape}; use one atlas for all subjects, time in rows"
            )
    return series
