"""From attributions of single people to what a decision rests on: shares of parts, and whether they are the true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float
from nibabel import Nifti1Image

from cinp_lib.connectivity import Atlas, edges
from study_lib.grid import Grid
from study_lib.shapes import Weights
from study_lib.statistics import BootstrapSettings, Interval, bootstrap
from study_lib.volume import resample

Parts = Float[np.ndarray, "person part"]
LEAST_SHARE = 0.05  # of a voxel, below which it belongs to no region


@dataclass(frozen=True)
class Hits:
    """Of the k parts that matter most, where k are truly affected: how many are, and what picking k at random gives."""

    rate: float
    chance: float
    chance_low: float  # 95 % of random picks (hypergeometric)
    chance_high: float
    k: int
    n: int


def importance(parts: Parts, groups: Sequence | None = None) -> Float[np.ndarray, " part"]:
    """The share of each part in the variance of the margin between people; shares add to 1.

    A single map is mostly about its person. What a decision rests on is what moves the margin from one person to the
    next: cov(part, margin) / var(margin), within the groups (folds) that share prompts.
    """
    centred = _centred(parts, groups)
    margin = centred.sum(axis=1)
    total = float(margin @ margin)
    if len(parts) < 3 or total <= 0:
        raise ValueError(f"importance: expected three people or more whose margins differ, got {len(parts)}")
    return margin @ centred / total


def hits(shares: Float[np.ndarray, " part"], affected: Bool[np.ndarray, " part"]) -> Hits:
    """The parts with the largest shares beside the truth."""
    k, n = int(affected.sum()), len(affected)
    if len(shares) != n or not 0 < k < n:
        raise ValueError(f"hits: expected some affected among {len(shares)} parts, got {k} of {n}")
    top = np.argsort(-shares, kind="stable")[:k]
    low, high = scipy.stats.hypergeom.interval(0.95, n, k, k)
    return Hits(float(affected[top].mean()), k / n, float(low) / k, float(high) / k, k, n)


def hit_interval(
    parts: Parts,
    affected: Bool[np.ndarray, " part"],
    groups: Sequence | None = None,
    settings: BootstrapSettings | None = None,
) -> Interval:
    """The hit rate over the people that are explained; columns beyond those of `affected` count in the margin alone.

    A draw holds fewer different people than there are, which costs some of the rate: the interval leans to the left.
    """
    centred, k = _centred(parts, groups), int(affected.sum())
    margin, ranked = centred.sum(axis=1), centred[:, : len(affected)]

    def rate(weights: Weights) -> np.ndarray:
        shares = (weights * margin) @ ranked
        return affected[np.argsort(-shares, axis=1, kind="stable")[:, :k]].mean(axis=1)

    return bootstrap(rate, np.arange(len(parts)), settings=settings or BootstrapSettings(draws=500))


def region_sums(values: Float[np.ndarray, "person x y z"], shares: Float[np.ndarray, "region x y z"]) -> Parts:
    """Attributions of regions, and last of what lies in none: columns add up to the margin as voxels do."""
    inside = np.einsum("pxyz,rxyz->pr", values, shares, optimize=True)
    outside = values.sum(axis=(1, 2, 3)) - inside.sum(axis=1)
    return np.concatenate([inside, outside[:, None]], axis=1)


@lru_cache(maxsize=2)
def region_shares(atlas: Atlas, grid: Grid) -> Float[np.ndarray, "region x y z"]:
    """Whose voxel it is on a coarse grid: regions by their part of it, blurred as scans are.

    A voxel that regions fill in part is theirs altogether, since a thinner cortex shows at its border; one that they
    hardly touch is nobody's.
    """
    fine = Grid.isotropic(2.0)
    labels = atlas.on_grid(fine)
    parts = [
        np.asarray(resample(Nifti1Image((labels == k + 1).astype(np.float32), fine.affine), grid).dataobj)
        for k in range(len(atlas.names))
    ]
    parts = np.clip(np.array(parts, np.float32), 0, None)
    total = parts.sum(axis=0)
    shares = np.where(total > LEAST_SHARE, parts / np.maximum(total, LEAST_SHARE), 0)
    shares.setflags(write=False)
    return shares


def on_regions(shares: Float[np.ndarray, " region"], atlas: Atlas) -> Nifti1Image:
    """A map in which every region has its share, on the atlas' own grid."""
    lookup = np.concatenate([[0.0], shares]).astype(np.float32)
    return Nifti1Image(lookup[atlas.labels], atlas.affine)


def affected_regions(effects: Mapping, names: Sequence[str]) -> Bool[np.ndarray, " region"]:
    """The phantom's regions that carry the effect of diagnosis (`Truth.effects()`)."""
    return np.isin(np.asarray(names), effects["affected_regions"])


def affected_edges(effects: Mapping, names: Sequence[str], disorder: str) -> Bool[np.ndarray, " edge"]:
    """The phantom's edges that a disorder moves, in the order of the upper triangle."""
    place = {name: k for k, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), bool)
    for first, second, _ in effects["affected_edges"][disorder]:
        matrix[place[first], place[second]] = matrix[place[second], place[first]] = True
    return edges(matrix)


def _centred(parts: Parts, groups: Sequence | None) -> Parts:
    centred = np.asarray(parts, np.float64).copy()
    labels = np.zeros(len(parts), int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    for group in np.unique(labels):
        centred[labels == group] -= centred[labels == group].mean(axis=0)
    return centred
