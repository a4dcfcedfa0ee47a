"""Linear classifiers on the edges of functional networks: a support vector machine, or ridge."""

import numpy as np

from cinp_lib.folds import Method
from cinp_lib.probing import ProbeConfig, linear_probe
from cinp_lib.tasks import Task
from study_lib.shapes import Embeddings, Networks


def edges(networks: Networks) -> Embeddings:
    """The upper triangle of every network, row by row: 6,670 edges of 116 regions; those of missing regions are 0."""
    if networks.ndim != 3 or networks.shape[1] != networks.shape[2]:
        raise ValueError(f"edges: expected networks of (subject, region, region), got {networks.shape}")
    rows, columns = np.triu_indices(networks.shape[1], 1)
    return np.asarray(networks, np.float64)[:, rows, columns]


def fcn_linear(networks: Networks, task: Task, config: ProbeConfig | None = None) -> Method:
    """Row k of the networks is person k of the task; `ProbeConfig(kind="ridge")` gives ridge."""
    return linear_probe(edges(networks), task, config)
