"""How much an embedding knows of the scanner: a linear classifier of sites, judged on people it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from study_lib import scores
from study_lib.shapes import Embeddings
from study_lib.statistics import BootstrapSettings, Interval, bootstrap

FOLDS = 5


@dataclass(frozen=True, eq=False)
class SiteProbe:
    """Predictions out of fold, one for each scan; families are in one fold."""

    labels: np.ndarray
    predictions: np.ndarray
    subjects: np.ndarray

    @property
    def balanced_accuracy(self) -> float:
        """Mean over sites of the share of scans that were found."""
        return scores.value_of(scores.balanced_accuracy(self.labels, self.predictions), len(self.labels))

    @property
    def chance(self) -> float:
        """Of a guess."""
        return 1 / len(set(self.labels.tolist()))

    def interval(self, settings: BootstrapSettings | None = None) -> Interval:
        """That of the balanced accuracy over subjects, drawn within sites."""
        return bootstrap(
            scores.balanced_accuracy(self.labels, self.predictions), self.subjects, self.labels, settings=settings
        )


def site_probe(
    embeddings: Embeddings, sites: Sequence[str], subjects: Sequence[str], families: Sequence[str], seed: int = 0
) -> SiteProbe:
    """Logistic regression on standardised embeddings, five folds within sites; scalers see training folds only."""
    embeddings, sites, families = np.asarray(embeddings), np.asarray(sites), np.asarray(families)
    names, counts = np.unique(sites, return_counts=True)
    if len(names) < 2 or counts.min() < FOLDS:
        found = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        raise ValueError(f"site_probe: expected two sites or more with {FOLDS} scans or more each, got {found}")
    if not np.isfinite(embeddings).all():
        raise ValueError("site_probe: expected finite embeddings, got NaN or infinity; leave these scans out by name")
    predictions = np.empty_like(sites)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for training, held_out in folds.split(embeddings, sites, families):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
        predictions[held_out] = classifier.fit(embeddings[training], sites[training]).predict(embeddings[held_out])
    return SiteProbe(sites, predictions, np.asarray(subjects))
