"""Two kinds of features in one decision: early, side by side before the classifier; or late, as a mean of decisions."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

from cinp_lib.folds import Fold, FoldScores, Method
from cinp_lib.probing import ProbeConfig, linear_probe
from cinp_lib.tasks import Task
from study_lib.shapes import Embeddings


class EqualBlocks(BaseEstimator, TransformerMixin):
    """Standardised features, each block divided by the root of its size: 6,670 edges do not drown 128 numbers."""

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        self.sizes = sizes

    def fit(self, features: Embeddings, y: object = None) -> Self:
        """Means and deviations of these rows."""
        self.scaler_ = StandardScaler().fit(features)
        largest = max(self.sizes)
        self.weights_ = np.concatenate([np.full(size, np.sqrt(largest / size)) for size in self.sizes])
        return self

    def transform(self, features: Embeddings) -> Embeddings:
        """Blocks of equal weight; that of the largest is 1."""
        return self.scaler_.transform(features) * self.weights_


def early_fusion(blocks: Sequence[Embeddings], task: Task, config: ProbeConfig | None = None) -> Method:
    """One linear classifier on all blocks; row k of each is person k of the task."""
    sizes = tuple(block.shape[1] for block in blocks)
    if len(blocks) < 2 or len({len(block) for block in blocks}) > 1:
        raise ValueError(
            f"early fusion: expected two blocks or more of the same people, got {[block.shape for block in blocks]}"
        )
    return linear_probe(np.hstack(blocks), task, config, EqualBlocks(sizes))


def late_fusion(methods: Sequence[Method]) -> Method:
    """The mean of the methods' scores, each in units of its own spread over the validation part."""
    if len(methods) < 2:
        raise ValueError(f"late fusion: expected two methods or more, got {len(methods)}")

    def of(fold: Fold) -> FoldScores:
        made = [method(fold).scaled() for method in methods]
        chosen = {f"{name}_{k}": value for k, own in enumerate(made) for name, value in own.chosen.items()}
        return FoldScores(
            np.mean([own.validation for own in made], axis=0), np.mean([own.test for own in made], axis=0), chosen
        )

    return of
