"""Test predictions of many folds, pooled, and what they are worth; the unit of every interval is the subject."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from study_lib import scores
from study_lib.statistics import (
    BootstrapSettings,
    Interval,
    PairedTest,
    Statistic,
    bootstrap,
    corrected_resampled_t,
    paired_difference,
)

Measure = Literal["accuracy", "balanced_accuracy", "auroc", "sensitivity", "specificity"]
KEY = ["fold", "subject"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """`table`: fold, subject, site, label, prediction and a score for each class; `chosen` has one row for each fold.

    Classes are numbers, in the order of `classes`. Of two classes the second, the disorder, is the positive one; of
    more, sensitivity, specificity and AUROC are means over the classes.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    chosen: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def subjects(self) -> int:
        """How many people were tested at least once."""
        return self.table["subject"].nunique()

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / len(self.classes)

    def statistic(self, measure: Measure) -> Statistic:
        """The measure as a function of row weights."""
        of = scores.classification_statistics(*self._columns())
        if measure not in of:
            raise KeyError(f"measure: expected {', '.join(of)}, got {measure}")
        return of[measure]

    def summary(self, settings: BootstrapSettings | None = None) -> dict[str, Interval | float]:
        """All measures with their intervals over subjects, drawn within classes; majority rate and chance."""
        return scores.classification_summary(*self._columns(), self.table["subject"].to_numpy(), settings)

    def value(self, measure: Measure = "balanced_accuracy") -> float:
        """Over all rows."""
        return scores.value_of(self.statistic(measure), len(self))

    def interval(self, measure: Measure = "balanced_accuracy", settings: BootstrapSettings | None = None) -> Interval:
        """That of the measure over subjects, drawn within classes."""
        return bootstrap(self.statistic(measure), self.table["subject"], self.table["label"], settings)

    def minus(
        self,
        other: "Predictions",
        measure: Measure = "balanced_accuracy",
        settings: BootstrapSettings | None = None,
    ) -> Interval:
        """How much better than another method, on the people and folds that both were asked about."""
        own, others = self.shared(other)
        people = own.table["subject"], own.table["label"]
        return paired_difference(own.statistic(measure), others.statistic(measure), *people, settings)

    def paired_test(self, other: "Predictions", measure: Measure = "balanced_accuracy") -> PairedTest:
        """Student's t of the folds' differences, corrected for the people that training parts have in common."""
        own, others = self.shared(other)
        pairs = zip(own._by_fold(measure), others._by_fold(measure), strict=True)
        n_test = len(own) / len(own.chosen)
        return corrected_resampled_t([a - b for a, b in pairs], own.chosen["training"].mean(), n_test)

    def shared(self, other: "Predictions") -> tuple["Predictions", "Predictions"]:
        """Both with the rows that both have, in one order."""
        both = self.table[KEY].merge(other.table[KEY])
        if both.empty or self.classes != other.classes:
            raise ValueError(
                "predictions: expected two methods of one task with folds in common, got classes "
                f"{', '.join(self.classes)} and {', '.join(other.classes)}, {len(both)} common rows; give both methods "
                "the same folds"
            )
        return self._rows(both), other._rows(both)

    def at_sites(self) -> dict[str, "Predictions"]:
        """The people of each site apart."""
        return {site: self._rows(own[KEY]) for site, own in self.table.groupby("site")}

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int | None]:
        """Labels, predictions, scores, and which class of two is the positive one."""
        labels, predictions = (self.table[name].to_numpy() for name in ("label", "prediction"))
        found = self.table[[f"score_{k}" for k in range(len(self.classes))]].to_numpy()
        return (labels, predictions, found[:, 1], 1) if len(self.classes) == 2 else (labels, predictions, found, None)

    def _rows(self, wanted: pd.DataFrame) -> "Predictions":
        table = wanted.merge(self.table, on=KEY, how="left", validate="1:1")
        chosen = self.chosen[self.chosen["fold"].isin(wanted["fold"])].reset_index(drop=True)
        return Predictions(self.classes, table, chosen)

    def _by_fold(self, measure: Measure) -> list[float]:
        return [self._rows(own[KEY]).value(measure) for _, own in self.table.groupby("fold", sort=False)]
