"""The linear reference of pre-training: what do components of volumes and of networks that vary together find?

Volumes, voxel by voxel in deviations from the mean head, and networks' edges are brought to principal components of
equal variance; the singular vectors of the covariance between both sides, weighted by its singular values, are the
embedding. A pre-trained pair of encoders that finds people less often than this has not learned all that is there.
"""

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
import torch
from sklearn.cross_decomposition import PLSSVD

from cinp_lib.pair_store import PairStore
from cinp_lib.principal_components import PrincipalComponents
from cinp_lib.retrieval import retrieval
from cinp_lib.starting_point import edges_of
from cinp_lib.voxel_standardiser import VoxelStandardiser
from study_lib.shapes import Embeddings

COMPONENTS = (40, 80, 160, 240)  # of each side, as far as there are people
SHARED = (8, 14, 30)  # directions that are kept


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of both sides, of equal variance; as many as the people of the training part differ in."""

    voxels: VoxelStandardiser
    sides: tuple[PrincipalComponents, PrincipalComponents]

    @classmethod
    def fit(cls, store: PairStore) -> Self:
        """From the pairs of a store."""
        voxels = VoxelStandardiser(store.size).fit(store.volume_batches())
        own = _volumes(store, voxels), edges_of(store).numpy()
        images, networks = (PrincipalComponents(rows.shape[1], COMPONENTS[-1]).fit(rows) for rows in own)
        return cls(voxels, (images, networks))

    @property
    def most(self) -> int:
        """Components of either side that are more than rounding."""
        return min(side.found for side in self.sides)

    def of(self, store: PairStore) -> tuple[np.ndarray, np.ndarray]:
        """Those of other people."""
        own = _volumes(store, self.voxels), edges_of(store).numpy()
        made = (side(torch.from_numpy(rows)).numpy() for side, rows in zip(self.sides, own, strict=True))
        return tuple(rows[:, : self.most] for rows in made)


@dataclass(frozen=True, eq=False)
class LinearAlignment:
    """Both sides' way to the directions that they share."""

    components: Components
    number: int
    shared: PLSSVD
    strengths: np.ndarray  # singular values

    @classmethod
    def chosen(cls, training: PairStore, validation: PairStore) -> Self:
        """The one of `COMPONENTS` and `SHARED` that finds validation people best (mean reciprocal rank)."""
        components = Components.fit(training)
        own = components.of(training)
        numbers = sorted({min(number, components.most) for number in COMPONENTS})
        kept = sorted({(number, min(shared, number)) for number, shared in product(numbers, SHARED)})
        fits = [cls._fit(components, own, number, shared) for number, shared in kept]
        others = components.of(validation.one_per_subject())
        return max(fits, key=lambda one: retrieval(*one._embedded(others)).mean_reciprocal_rank)

    @classmethod
    def _fit(cls, components: Components, own: tuple[np.ndarray, np.ndarray], number: int, shared: int) -> Self:
        own = tuple(side[:, :number] for side in own)
        fitted = PLSSVD(shared, scale=False).fit(*own)
        return cls(components, number, fitted, np.mean(np.multiply(*fitted.transform(*own)), axis=0))

    def embed(self, store: PairStore) -> tuple[Embeddings, Embeddings]:
        """Images and networks of a store, of length 1."""
        return self._embedded(self.components.of(store))

    def _embedded(self, components: tuple[np.ndarray, np.ndarray]) -> tuple[Embeddings, Embeddings]:
        own = (side[:, : self.number] for side in components)
        return tuple(_unit(side * self.strengths) for side in self.shared.transform(*own))


def _volumes(store: PairStore, voxels: VoxelStandardiser) -> np.ndarray:
    """Standard voxels that brains have in common, one row for each head."""
    batches = (torch.from_numpy(volumes)[:, None] for volumes in store.volume_batches())
    return np.concatenate([voxels(volumes)[:, 0, voxels.common].numpy() for volumes in batches])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
