"""The ceiling that only a phantom has: diagnosis by the true traits of the anatomy, and nothing else."""

import numpy as np

from cinp_lib.folds import Fold, FoldScores, Method
from cinp_lib.tasks import Task
from study_lib.phantom.truth import Truth, oracle_predictions


def oracle(task: Task, truth: Truth) -> Method:
    """It learns nothing, so every fold says the same of a person; its scores are 1 for the answer and 0 for others."""
    answers = (told_by_traits(task, truth)[:, None] == np.array(task.classes)).astype(float)

    def of(fold: Fold) -> FoldScores:
        return FoldScores(answers[fold.validation], answers[fold.test])

    return of


def told_by_traits(task: Task, truth: Truth) -> np.ndarray:
    """The class that each person's true traits speak for, by name."""
    shifts = truth.effects()["anatomy_shift"]
    traits = truth.table("anatomy_traits").loc[task.table["subject"]]
    return oracle_predictions(traits, {name: shifts[name] for name in task.classes})
