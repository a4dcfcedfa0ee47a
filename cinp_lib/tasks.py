"""Diagnostic tasks: which people of a table belong to each, its classes, and how they are split."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study_lib.splits import Split, split_subjects

NAMES = ("abide", "adhd200", "srpbs")  # the study's, and the words of metrics
CONTROL = "control"
RATIOS = (7, 2, 1)  # the study's, within classes and sites
Part = np.ndarray  # places of people in the task


@dataclass(frozen=True, eq=False)
class Task:
    """`table` has one row, the first scan, for each person; `places` says where these rows were in the whole table."""

    name: str
    table: pd.DataFrame
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> tuple[str, ...]:
        """Controls first, then disorders by name."""
        found = sorted(set(self.table["diagnosis"]))
        return tuple(sorted(found, key=lambda name: name != CONTROL))

    @property
    def y(self) -> np.ndarray:
        """The class of each person, as a number."""
        classes = self.classes
        return np.array([classes.index(name) for name in self.table["diagnosis"]])

    def splits(self, repeats: int, seed: int = 0) -> list[Split]:
        """Repeated 7:2:1, families whole, balanced over classes and sites."""
        return split_subjects(self.table, RATIOS, seed, repeats=repeats)

    def part(self, subjects: tuple[str, ...]) -> Part:
        """Places in this task of the subjects of one part of a split."""
        return np.flatnonzero(self.table["subject"].isin(subjects))


def tasks_of(table: pd.DataFrame) -> dict[str, Task]:
    """The tasks whose cohorts are in a table, such as that of embeddings or of pairs.

    A cohort belongs to the task whose name its own ends in: "abide", "phantom-abide". Pre-training people are of no
    task; a cohort of one class cannot be one.
    """
    found = {}
    for name in NAMES:
        own = table["cohort"].str.lower().map(lambda cohort, name=name: re.split(r"[^a-z0-9]", cohort)[-1] == name)
        chosen = own & (table["role"] != "pre-training") & (table["diagnosis"] != "")
        chosen &= ~table["subject"].where(chosen).duplicated()
        if not chosen.any():
            continue
        task = Task(name, table[chosen].reset_index(drop=True), np.flatnonzero(chosen))
        if len(task.classes) < 2:
            raise ValueError(f"task {name}: expected people of two classes or more, got only {task.classes[0]!r}")
        found[name] = task
    if not found:
        cohorts = ", ".join(sorted(set(table["cohort"]))) or "none"
        raise ValueError(f"tasks: expected a cohort named after {', '.join(NAMES)}, got {cohorts}")
    return found
