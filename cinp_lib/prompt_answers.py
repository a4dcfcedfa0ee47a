"""What people were told in every draw, pooled over folds, and what that is worth; intervals are over subjects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from study_lib import scores
from study_lib.statistics import BootstrapSettings, Interval, bootstrap, paired_difference

KEY = ["fold", "subject"]


@dataclass(frozen=True, eq=False)
class Answers:
    """`table` (fold, subject, label) has a row for each person and fold; labels are places in `classes`.

    What was drawn anew in every draw is the people whose networks or labels were used, so the spread over draws is that
    of the choice of references; intervals are over the people who were asked.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    scores: Float[np.ndarray, "draw row class"]

    def __post_init__(self) -> None:
        expected = len(self.table), len(self.classes)
        if self.scores.ndim != 3 or self.scores.shape[1:] != expected:
            raise ValueError(f"Answers: expected scores of (draws, {expected}), got {self.scores.shape}")
        if not np.isfinite(self.scores).all():
            people = self.table["subject"][~np.isfinite(self.scores).all((0, 2))]
            raise ValueError(f"Answers: NaN or infinite scores for {', '.join(people.unique()[:10])}")

    @property
    def labels(self) -> np.ndarray:
        """The truth."""
        return self.table["label"].to_numpy()

    @property
    def subjects(self) -> int:
        """How many people were asked at least once."""
        return self.table["subject"].nunique()

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def hits(self) -> Bool[np.ndarray, "draw row"]:
        """Whether the class with the largest score is the right one."""
        return self.scores.argmax(axis=2) == self.labels

    def interval(self, settings: BootstrapSettings | None = None) -> Interval:
        """Balanced accuracy, mean over draws, and its interval over subjects, drawn within classes."""
        return bootstrap(self._balanced_accuracy(), self.table["subject"], self.labels, settings)

    def value(self) -> float:
        """Balanced accuracy, mean over draws."""
        return scores.value_of(self._balanced_accuracy(), len(self.table))

    def over_draws(self) -> Float[np.ndarray, "draw fold"]:
        """Balanced accuracy of every draw within every fold: draws of different folds have nothing in common."""
        hits, folds = self.hits, self.table.groupby("fold", sort=False).indices.values()
        of_class = [[rows[self.labels[rows] == k] for k in np.unique(self.labels[rows])] for rows in folds]
        return np.stack([np.mean([hits[:, own].mean(1) for own in classes], axis=0) for classes in of_class], axis=1)

    def draw_limits(self, share: float = 0.95) -> tuple[float, float]:
        """Where the middle share of draws lies, people and folds being the same."""
        draws = self.over_draws()
        deviations = np.quantile(draws - draws.mean(axis=0), [(1 - share) / 2, (1 + share) / 2])
        return tuple(np.clip(self.value() + deviations, 0, 1).tolist())

    def minus(self, other: "Answers", settings: BootstrapSettings | None = None) -> Interval:
        """How much better than another method on the same people and folds."""
        if not self.table[KEY].equals(other.table[KEY]) or self.classes != other.classes:
            raise ValueError("Answers.minus: expected two methods asked about the same people in the same folds")
        people = self.table["subject"], self.labels
        return paired_difference(self._balanced_accuracy(), other._balanced_accuracy(), *people, settings)

    def recalls(self) -> dict[str, float]:
        """Share of each class that was found: of controls it is the specificity."""
        hits = self.hits.mean(axis=0)
        return {name: float(hits[self.labels == k].mean()) for k, name in enumerate(self.classes)}

    def auroc(self) -> float:
        """Mean over draws and folds, and over classes where there are more than two: other folds, other scales."""
        areas = [
            _area(self.scores[:, rows], self.labels[rows], k)
            for rows in self.table.groupby("fold", sort=False).indices.values()
            for k in np.unique(self.labels[rows])
            if len(self.classes) > 2 or k == 1
        ]
        return float(np.mean(areas))

    def _balanced_accuracy(self) -> scores.Statistic:
        return scores.mean_recall(self.labels, self.hits.mean(axis=0))


def pooled(parts: Sequence[Answers]) -> Answers:
    """Answers of several folds as one."""
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Answers(parts[0].classes, table, np.concatenate([part.scores for part in parts], axis=1))


def _area(scores_of: Float[np.ndarray, "draw row class"], labels: np.ndarray, k: int) -> float:
    """Pairs of one of the class and one of the others in the right order, ties half."""
    margin = scores_of[:, :, k] - np.delete(scores_of, k, axis=2).mean(axis=2)
    difference = margin[:, labels == k, None] - margin[:, None, labels != k]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
