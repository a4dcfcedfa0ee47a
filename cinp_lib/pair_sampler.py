"""Batches of pairs: a pure function of seed and iteration, so that a resumed run sees what it would have seen."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Int

from cinp_lib.pair_store import PairStore
from study_lib.training.streams import stream

Batch = Int[np.ndarray, " batch"]


@dataclass(frozen=True, eq=False)
class PairSampler:
    """Epochs in which every family comes at most once, by one of its scans at random, cut into whole batches.

    So no batch holds two scans of a subject, nor siblings, who would be each other's false strangers. What does not
    fill a batch is left out of the epoch, others in each. `within_site`: each batch is of one site, so that a scanner
    cannot tell pairs apart.
    """

    store: PairStore
    batch: int
    seed: int = 0
    within_site: bool = False

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"PairSampler.batch: expected at least two pairs, got {self.batch}")
        if not self.store.table["has_network"].all():
            alone = self.store.table.loc[~self.store.table["has_network"], "subject"].tolist()
            raise ValueError(f"PairSampler: expected a network of everybody, none of {', '.join(alone[:10])}")
        counts = self.store.table.groupby(self._homes())["family"].nunique()
        if (small := counts[counts < self.batch]).any():
            shown = ", ".join(f"{name or 'all sites'} {n}" for name, n in small.items())
            raise ValueError(
                f"PairSampler: a batch of {self.batch} holds each family once; too few families: {shown}. "
                f"Choose a batch of at most {small.min()}" + (", or batches across sites" * self.within_site)
            )

    @cached_property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return int((self.store.table.groupby(self._homes())["family"].nunique() // self.batch).sum())

    def draw(self, iteration: int) -> Batch:
        """The pairs of an iteration's global batch."""
        epoch, number = divmod(iteration, self.per_epoch)
        return self._epoch(epoch)[number]

    def _epoch(self, epoch: int) -> Int[np.ndarray, "number batch"]:
        rng = stream(self.seed, "pairs", epoch)
        table, order, batches = self.store.table, rng.permutation(len(self.store)), []
        homes = self._homes().to_numpy()
        # In random order, the first scan of each family: both the family's place and its scan are then random.
        first = order[~table["family"].iloc[order].duplicated().to_numpy()]
        for home in sorted(set(homes)):
            own = first[homes[first] == home]
            batches += list(own[: len(own) // self.batch * self.batch].reshape(-1, self.batch))
        return np.array(batches)[rng.permutation(len(batches))]

    def _homes(self) -> pd.Series:
        """What a batch has in common: a site, or nothing."""
        return self.store.table["site"] if self.within_site else self.store.table["site"].map(lambda _: "")
