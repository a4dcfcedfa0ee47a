"""Folds of a task: who trains, who chooses, who is tested; and what any method makes of them, pooled.

A method is a function of a fold: it may learn from the training part, choose by the validation part, and is asked once
about the test part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from cinp_lib.predictions import Predictions
from cinp_lib.tasks import Part, Task
from study_lib.splits import Split, check_split, leave_one_site_out

Scores = Float[np.ndarray, "subject class"]


@dataclass(frozen=True, eq=False)
class Fold:
    """Places in the task of the people of each part."""

    name: str
    training: Part
    validation: Part
    test: Part


@dataclass(frozen=True, eq=False)
class FoldScores:
    """How much speaks for every class; the largest is the answer. `chosen`: what was chosen on the validation part."""

    validation: Scores
    test: Scores
    chosen: Mapping[str, float] = field(default_factory=dict)

    def scaled(self) -> "FoldScores":
        """In units of their spread over the validation part, so that folds can be pooled, and methods averaged."""
        spread = self.validation.std()
        spread = spread if spread > 0 else 1.0
        return FoldScores(self.validation / spread, self.test / spread, self.chosen)


Method = Callable[[Fold], FoldScores]


def repeated_folds(task: Task, repeats: int, seed: int = 0) -> list[Fold]:
    """The study's 7:2:1, drawn again and again; families are whole, classes and sites balanced."""
    return folds_of(task, task.splits(repeats, seed))


def site_folds(task: Task, seed: int = 0) -> list[Fold]:
    """One fold for each site, whose people are the test part; relatives of them who were scanned elsewhere sit out."""
    return folds_of(task, leave_one_site_out(task.table, seed=seed))


def folds_of(task: Task, splits: Sequence[Split]) -> list[Fold]:
    """Splits as places in the task; one that is of other people, or separates a family, is refused."""
    folds = []
    for split in splits:
        check_split(split, task.table)
        parts = (task.part(part) for part in (split.train, split.validation, split.test))
        folds.append(_checked(Fold(split.name, *parts), task))
    if not folds:
        raise ValueError(f"task {task.name}: expected at least one split, got none")
    return folds


def out_of_fold(task: Task, folds: Sequence[Fold], method: Method) -> Predictions:
    """What the method says of the test people of every fold: one row for each person and fold."""
    tables, chosen = [], []
    for fold in folds:
        made = method(fold)
        _check_scores(made, fold, task)
        people, scores = task.table.iloc[fold.test], made.scaled().test
        rows = {"fold": fold.name, "subject": people["subject"], "site": people["site"], "label": task.y[fold.test]}
        columns = {f"score_{k}": scores[:, k] for k in range(len(task.classes))}
        tables.append(pd.DataFrame(rows | {"prediction": scores.argmax(1)} | columns))
        chosen.append({"fold": fold.name, "training": len(fold.training), **made.chosen})
    return Predictions(task.classes, pd.concat(tables, ignore_index=True), pd.DataFrame(chosen))


def remembered(method: Method) -> Method:
    """The same method, asked once about each fold however many use its answers."""
    made: dict[str, FoldScores] = {}

    def of(fold: Fold) -> FoldScores:
        if fold.name not in made:
            made[fold.name] = method(fold)
        return made[fold.name]

    return of


def _checked(fold: Fold, task: Task) -> Fold:
    """A method cannot learn a class that is not there, nor choose by a part that has one class only."""
    for name, part, least in (("training", fold.training, len(task.classes)), ("validation", fold.validation, 2)):
        found = sorted({task.classes[k] for k in task.y[part]})
        if len(found) < least:
            raise ValueError(
                f"task {task.name}, {fold.name}: expected {'every class' if name == 'training' else 'two classes'} in "
                f"the {name} part, got {', '.join(found) or 'nobody'} of {', '.join(task.classes)}; more people, or "
                "fewer classes"
            )
    return fold


def _check_scores(made: FoldScores, fold: Fold, task: Task) -> None:
    for name, scores, part in (("validation", made.validation, fold.validation), ("test", made.test, fold.test)):
        if scores.shape != (len(part), len(task.classes)):
            wanted = len(part), len(task.classes)
            raise ValueError(f"{fold.name}: expected {name} scores of shape {wanted}, got {scores.shape}")
        if not np.isfinite(scores).all():
            people = task.table["subject"].iloc[part[~np.isfinite(scores).all(1)]].tolist()
            raise ValueError(f"{fold.name}: {name} scores of {', '.join(people[:10])} are NaN or infinite")
