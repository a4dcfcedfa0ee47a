"""Covariance of one subject's series, partial correlation, and the geometry of covariance matrices."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import linalg

Shrinkage = Literal["ledoit_wolf", "none"]
Matrix = Float[np.ndarray, "region region"]


def pearson(series: Float[np.ndarray, "time region"]) -> Matrix:
    """Plain Pearson correlation of columns that vary, in float64; exactly symmetric, diagonal exactly 1."""
    centred = series - series.mean(axis=0)
    centred /= np.sqrt(np.einsum("tr,tr->r", centred, centred))
    correlation = np.clip(centred.T @ centred, -1, 1)
    correlation = (correlation + correlation.T) / 2
    np.fill_diagonal(correlation, 1)
    return correlation


def covariance(series: Float[np.ndarray, "time region"], shrinkage: Shrinkage) -> Matrix:
    """Ledoit and Wolf's shrunk covariance, or the empirical one (maximum likelihood)."""
    from sklearn.covariance import empirical_covariance, ledoit_wolf

    return ledoit_wolf(series)[0] if shrinkage == "ledoit_wolf" else empirical_covariance(series)


def partial_correlation(matrix: Matrix) -> Matrix:
    """Correlation of two regions with all others held fixed, from a covariance."""
    precision = linalg.inv(matrix, check_finite=False)
    scale = np.sqrt(np.diag(precision))
    partial = -(precision + precision.T) / 2 / np.outer(scale, scale)
    np.fill_diagonal(partial, 1)
    return partial


def geometric_mean(matrices: Float[np.ndarray, "subject region region"]) -> Matrix:
    """The geometric mean of covariances, as nilearn computes it (Fletcher and Joshi 2007, Signal Processing 87:250)."""
    from nilearn.connectome import ConnectivityMeasure

    class Given:
        """Passes a covariance through where nilearn expects an estimator of one."""

        def get_params(self, deep: bool = True) -> dict:
            return {}

        def fit(self, matrix: np.ndarray) -> "Given":
            self.covariance_ = matrix
            return self

    return ConnectivityMeasure(cov_estimator=Given(), kind="tangent").fit(list(matrices)).mean_


def on_eigenvalues(function, matrix: Matrix) -> Matrix:
    """Apply a function of numbers to a symmetric matrix."""
    values, vectors = linalg.eigh(matrix)
    return (vectors * function(values)) @ vectors.T


def completed(matrix: Matrix, present: np.ndarray, reference: Matrix) -> Matrix:
    """A covariance of the present regions, extended to all of them as the reference predicts the missing ones.

    Missing regions follow the present ones by the reference's regression and keep its residual covariance, so the
    result is positive definite and says nothing about them that the reference does not.
    """
    if present.all():
        return matrix
    gone = ~present
    weights = np.linalg.solve(reference[np.ix_(present, present)], reference[np.ix_(present, gone)])
    residual = reference[np.ix_(gone, gone)] - reference[np.ix_(gone, present)] @ weights
    full = np.empty_like(reference)
    full[np.ix_(present, present)] = matrix
    full[np.ix_(present, gone)] = matrix @ weights
    full[np.ix_(gone, present)] = full[np.ix_(present, gone)].T
    full[np.ix_(gone, gone)] = residual + weights.T @ matrix @ weights
    return full
