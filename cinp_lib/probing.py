"""Linear probing: what frozen embeddings know of a diagnosis, with the strength of the probe chosen on validation.

task = Task("mine", people, np.arange(len(people)))      # a row of `people` for each row of the embeddings
found = probe(embeddings, task, repeated_folds(task, repeats=20))
print(found.interval("balanced_accuracy"), found.chance)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cinp_lib.folds import Fold, FoldScores, Method, Scores, out_of_fold
from cinp_lib.predictions import Predictions
from cinp_lib.tasks import Task
from study_lib import scores
from study_lib.shapes import Embeddings
from study_lib.statistics import PermutationTest, within_site_permutation

Kind = Literal["svm", "ridge"]
Features = Embeddings | pd.DataFrame


@dataclass(frozen=True)
class ProbeConfig:
    """`strengths`: C of the support vector machine, 1 / alpha of ridge; the first of equally good ones is taken.

    Features are standardised and then divided by the root of their number, so that a row has a length of about 1, and
    one list of strengths fits embeddings of 128 numbers and networks of 6,670 edges alike.
    """

    kind: Kind = "svm"
    strengths: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
    class_weight: str | None = "balanced"
    tolerance: float = 1e-3
    most_iterations: int = 20_000

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"ProbeConfig.kind: expected {' or '.join(get_args(Kind))}, got {self.kind!r}")
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"ProbeConfig.strengths: expected numbers above 0, got {self.strengths}")

    def classifier(self, strength: float) -> LinearSVC | RidgeClassifier:
        """Not fitted yet."""
        if self.kind == "ridge":
            return RidgeClassifier(alpha=1 / strength, class_weight=self.class_weight)
        return LinearSVC(
            C=strength,
            class_weight=self.class_weight,
            tol=self.tolerance,
            max_iter=self.most_iterations,
            random_state=0,  # of the order in which it looks at people
        )


class UnitRows(BaseEstimator, TransformerMixin):
    """Rows of standardised features divided by the root of their number."""

    def fit(self, features: Embeddings, y: object = None) -> Self:
        """Nothing is learned but the number of features."""
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features: Embeddings) -> Embeddings:
        """Rows of about length 1."""
        return features / np.sqrt(self.n_features_in_)


class TrainingSpan(BaseEstimator, TransformerMixin):
    """Coordinates in the space that the training rows span.

    The weights of a linear classifier lie in it, so nothing changes but the time: 6,670 edges become 210 numbers. Where
    there are fewer features than rows they stay as they are.
    """

    def fit(self, features: Embeddings, y: object = None) -> Self:
        """The directions of these rows."""
        if features.shape[1] <= len(features):
            self.directions_ = None
            return self
        values, vectors = np.linalg.eigh(features @ features.T)
        kept = values > values[-1] * 1e-10
        self.directions_ = features.T @ (vectors[:, kept] / np.sqrt(values[kept]))
        return self

    def transform(self, features: Embeddings) -> Embeddings:
        """What lies across is dropped: no weight points there."""
        return features if self.directions_ is None else features @ self.directions_


def probe(
    features: Features,
    task: Task,
    folds: Sequence[Fold],
    config: ProbeConfig | None = None,
    preparation: TransformerMixin | None = None,
) -> Predictions:
    """A linear classifier on frozen features, row k of which is person k of the task; see `linear_probe`."""
    return out_of_fold(task, folds, linear_probe(features, task, config, preparation))


def linear_probe(
    features: Features,
    task: Task,
    config: ProbeConfig | None = None,
    preparation: TransformerMixin | None = None,
) -> Method:
    """Scaler and classifier see the training part alone; the strength is the one with the best validation AUROC.

    `preparation` replaces the scaler where features are not plain numbers.
    """
    config, preparation = config or ProbeConfig(), preparation or StandardScaler()
    _check_features(features, task)

    def of(fold: Fold) -> FoldScores:
        return fitted_probe(features, task.y, fold, config, preparation)[1]

    return of


def fitted_probe(
    features: Features, y: np.ndarray, fold: Fold, config: ProbeConfig, preparation: TransformerMixin
) -> tuple[Pipeline, FoldScores]:
    """The chosen pipeline of one fold, and what it says of the validation and test parts."""
    front = make_pipeline(clone(preparation), UnitRows(), TrainingSpan())
    training = front.fit_transform(_rows(features, fold.training))
    validation, test = (front.transform(_rows(features, part)) for part in (fold.validation, fold.test))
    best: tuple[float, float, object] = (-np.inf, 0.0, None)
    for strength in config.strengths:
        classifier = config.classifier(strength).fit(training, y[fold.training])
        found = _auroc(y[fold.validation], decision_scores(classifier, validation))
        if found > best[0]:
            best = found, strength, classifier
    auroc, strength, classifier = best
    made = (decision_scores(classifier, part) for part in (validation, test))
    chosen = {"strength": strength, "validation_auroc": auroc}
    return make_pipeline(*(step for _, step in front.steps), classifier), FoldScores(*made, chosen)


def decision_scores(classifier: LinearSVC | RidgeClassifier, features: Embeddings) -> Scores:
    """One column for each class; of two classes the columns are each other's negative."""
    found = classifier.decision_function(features)
    return np.stack([-found, found], 1) if found.ndim == 1 else found


def permutation_test(
    features: Features, task: Task, folds: Sequence[Fold], config: ProbeConfig | None = None, draws: int = 100
) -> PermutationTest:
    """Balanced accuracy of the probe against probes of labels that are shuffled within sites, fitted anew each time."""

    def balanced_accuracy(labels: np.ndarray) -> float:
        shuffled = replace(task, table=task.table.assign(diagnosis=labels))
        found = probe(features, shuffled, folds, config).table  # of few people all may now be of one class
        return scores.value_of(scores.balanced_accuracy(found["label"], found["prediction"]), len(found))

    labels, sites = (task.table[name].to_numpy(str) for name in ("diagnosis", "site"))
    return within_site_permutation(balanced_accuracy, labels, sites, draws=draws)


def _auroc(labels: np.ndarray, found: Float[np.ndarray, "subject class"]) -> float:
    """Mean over the classes that are there, each against the rest."""
    areas = [
        scores.value_of(scores.auroc(labels == k, found[:, k], positive=True), len(labels)) for k in np.unique(labels)
    ]
    return float(np.mean(areas))


def _rows(features: Features, part: np.ndarray) -> Features:
    return features.iloc[part] if isinstance(features, pd.DataFrame) else features[part]


def _check_features(features: Features, task: Task) -> None:
    if features.ndim != 2 or len(features) != len(task):
        raise ValueError(
            f"probe of {task.name}: expected one row of features for each of {len(task)} people, got {features.shape}; "
            "Task.places says which rows of a larger table they are"
        )
    if isinstance(features, pd.DataFrame):
        return
    if (broken := ~np.isfinite(features).all(1)).any():
        people = ", ".join(task.table["subject"][broken].head(10))
        raise ValueError(
            f"probe of {task.name}: {broken.sum()} people have NaN or infinity among their features, first {people}; "
            "leave them out by name (NaN embeddings of networks belong to people without one)"
        )
