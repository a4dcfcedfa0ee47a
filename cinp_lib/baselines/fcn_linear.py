"""Linear classifiers on the edges of functional networks: a support vector machine, or ridge."""

import numpy as np

from cinp_lib.connectivity import edges
from cinp_lib.folds import Method
from cinp_lib.probing import ProbeConfig, linear_probe
from cinp_lib.tasks import Task
from study_lib.shapes import Networks


def fcn_linear(networks: Networks, task: Task, config: ProbeConfig | None = None) -> Method:
    """Row k of the networks is person k of the task; `ProbeConfig(kind="ridge")` gives ridge."""
    return linear_probe(edges(np.asarray(networks, np.float64)), task, config)
