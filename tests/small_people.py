"""A table of people with classes and sites, and features that know of the class, for tests of probing."""

import numpy as np
import pandas as pd

from cinp_lib.tasks import Task

CLASSES = ("control", "autism", "depression")


def task_of(number: int = 60, classes: int = 2, sites: int = 2, seed: int = 0) -> Task:
    """Strangers; classes are mixed over the sites."""
    rng = np.random.default_rng(seed)
    names = [f"p{k:03d}" for k in range(number)]
    y = rng.permutation(np.arange(number) % classes)
    people = {"subject": names, "family": names, "site": [f"S{k % sites}" for k in range(number)]}
    people |= {"sex": rng.choice(["F", "M"], number), "age_years": rng.uniform(10, 60, number).round(1)}
    people |= {"diagnosis": np.array(CLASSES)[y], "cohort": "test-abide", "role": "unassigned"}
    return Task("abide", pd.DataFrame(people), np.arange(number))


def features_of(task: Task, shift: float = 1.5, number: int = 7, seed: int = 1) -> np.ndarray:
    """Noise, and a column for each class that is higher in it."""
    features = np.random.default_rng(seed).normal(size=(len(task), number))
    features[np.arange(len(task)), task.y] += shift
    return features
