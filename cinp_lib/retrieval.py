"""Does an image find its own network among those of other people, and a network its image?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study_lib import scores
from study_lib.shapes import Embeddings
from study_lib.statistics import BootstrapSettings, Interval, bootstrap

AGE_BANDS_YEARS = (0, 18, 25, 35, 50, 120)


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Of each subject that has others in its gallery: the chance of being first, both ways, and what guessing gives.

    Where several are equally alike, each of them is first with the same chance.
    """

    places: np.ndarray  # of these subjects among those given
    to_network: np.ndarray  # 1 where the own network is the most alike
    to_image: np.ndarray
    reciprocal_rank: np.ndarray  # mean of both ways
    gallery: np.ndarray  # how many each was compared with, itself included

    @property
    def r1(self) -> float:
        """Share of subjects found first, mean of both ways."""
        return float((self.to_network.mean() + self.to_image.mean()) / 2)

    @property
    def chance(self) -> float:
        """The same of guessing."""
        return float((1 / self.gallery).mean())

    @property
    def mean_reciprocal_rank(self) -> float:
        """1 where everybody is found first."""
        return float(self.reciprocal_rank.mean())

    def interval(self, settings: BootstrapSettings | None = None) -> Interval:
        """That of `r1` over subjects; the gallery stays as it is."""
        return bootstrap(scores.mean((self.to_network + self.to_image) / 2), self.places, settings=settings)


def retrieval(images: Embeddings, networks: Embeddings, groups: Sequence | None = None) -> Retrieval:
    """Row k of both is one subject's; with `groups` (sites, age bands) the gallery is the subject's own group."""
    images, networks = np.asarray(images, np.float64), np.asarray(networks, np.float64)
    if images.ndim != 2 or images.shape != networks.shape or len(images) < 2:
        raise ValueError(
            "retrieval: expected an image and a network of at least two subjects, in embeddings of one size, "
            f"got shapes {images.shape} and {networks.shape}"
        )
    if not (np.isfinite(images).all() and np.isfinite(networks).all()):
        raise ValueError("retrieval: expected finite embeddings, got NaN or infinity; leave these subjects out by name")
    labels = np.zeros(len(images), int) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(labels) != len(images):
        raise ValueError(f"retrieval: expected a group for each of {len(images)} subjects, got {len(labels)}")
    allowed = labels[:, None] == labels[None]
    kept = np.flatnonzero(allowed.sum(1) > 1)
    if not len(kept):
        raise ValueError("retrieval: expected a group of at least two subjects, got none; use coarser groups")
    similarity = images @ networks.T
    first = [_first(s, allowed)[kept] for s in (similarity, similarity.T)]
    reciprocal = np.mean([1 / _rank(s, allowed)[kept] for s in (similarity, similarity.T)], axis=0)
    return Retrieval(kept, *first, reciprocal, allowed.sum(1)[kept])


def retrieval_table(found: Mapping[str, Retrieval]) -> pd.DataFrame:
    """One row for each gallery: how often the own partner comes first, its interval over subjects, and chance."""
    rows = []
    for name, own in found.items():
        interval = own.interval()
        row = {"gallery": name, "size": own.gallery.mean(), "first": own.r1, "low": interval.low, "high": interval.high}
        ways = {"image_to_network": own.to_network.mean(), "network_to_image": own.to_image.mean()}
        rows.append(row | {"chance": own.chance} | ways)
    return pd.DataFrame(rows)


def age_bands(years: Sequence[float]) -> np.ndarray:
    """A name for each subject's band of age; those of unknown age are one band of their own."""
    bands = pd.cut(np.asarray(years, float), AGE_BANDS_YEARS, right=False)
    return np.array(["unknown" if pd.isna(band) else f"{band.left:.0f} to {band.right:.0f} years" for band in bands])


def _first(similarity: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The chance that the own entry of each row is drawn from the largest ones."""
    seen = np.where(allowed, similarity, -np.inf)
    largest = seen == seen.max(1, keepdims=True)
    return np.diagonal(largest) / largest.sum(1)


def _rank(similarity: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Mean rank of the own entry among those of equal similarity; 1 is the first."""
    own = np.diagonal(similarity)[:, None]
    above, equal = (allowed & (similarity > own)).sum(1), (allowed & (similarity == own)).sum(1)
    return above + (equal + 1) / 2
