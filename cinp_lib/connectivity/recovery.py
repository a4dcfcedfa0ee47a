"""How near estimated networks come to true ones, which only a phantom has."""

import numpy as np
from jaxtyping import Float

from study_lib.shapes import Networks


def edges(networks: Networks) -> Float[np.ndarray, "subject edge"]:
    """The values above the diagonal, row by row: 6,670 of 116 regions; those of missing regions are 0."""
    networks = np.asarray(networks)
    if networks.ndim < 2 or networks.shape[-1] != networks.shape[-2]:
        raise ValueError(f"edges: expected networks of (subject, region, region), got {networks.shape}")
    rows, columns = np.triu_indices(networks.shape[-1], 1)
    return networks[..., rows, columns]


def without_missing(networks: Networks) -> Networks:
    """NaN in the rows and columns of missing regions (their diagonal is 0), to average over people."""
    present = np.diagonal(networks, axis1=-2, axis2=-1) != 0
    return np.where(present[..., :, None] & present[..., None, :], networks, np.nan)


def edge_recovery(estimated: Networks, true: Networks) -> Float[np.ndarray, " subject"]:
    """Per subject, the correlation of estimated with true edges after the group mean is removed from both."""
    return np.diag(_similarity(estimated, true)).copy()


def identification_rate(estimated: Networks, true: Networks) -> float:
    """The share of estimated networks whose most similar true network is the subject's own (group means removed)."""
    return float((_similarity(estimated, true).argmax(axis=1) == np.arange(len(estimated))).mean())


def _similarity(estimated: Networks, true: Networks) -> np.ndarray:
    """(estimated, true) correlations between subjects' deviations from the group."""
    if len(estimated) != len(true) or len(estimated) < 2:
        raise ValueError(
            f"expected as many estimated as true networks, at least two, got {len(estimated)} and {len(true)}"
        )
    deviations = []
    for networks in (estimated, true):
        values = edges(np.asarray(networks, dtype=np.float64))
        values = values - values.mean(axis=0)
        values -= values.mean(axis=1, keepdims=True)
        deviations.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    return deviations[0] @ deviations[1].T


def edge_motion_correlation(networks: Networks, mean_fd_mm: np.ndarray) -> Float[np.ndarray, " edge"]:
    """Over subjects, the correlation of every edge with motion; 0 where somebody lacks the edge or none varies."""
    values = edges(without_missing(networks))
    complete = np.isfinite(values).all(axis=0)
    deviation = np.where(complete, values - np.where(complete, values, 0).mean(axis=0), 0)
    motion = mean_fd_mm - mean_fd_mm.mean()
    size = np.linalg.norm(deviation, axis=0) * np.linalg.norm(motion)
    return np.divide(motion @ deviation, size, out=np.zeros_like(size), where=size > 0)
