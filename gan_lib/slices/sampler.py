"""Draws of training batches: a pure function of seed and step, so that a resumed run sees what it would have seen."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from gan_lib.slices.rows import EVALUATION
from gan_lib.slices.store import SliceStore
from study_lib.training.streams import stream

Images = Float32[Tensor, "batch 1 height width"]
Masks = Bool[Tensor, "batch 1 height width"]
Sites = Int[Tensor, "batch"]

# With `match_level`: how far from the source's level, of the brain's extent, a reference may lie.
LEVEL_SPREAD = 0.05


@dataclass(frozen=True)
class DrawConfig:
    """What is drawn; the defaults are the study's."""

    other_site: bool = False  # the target is never the source's own site
    match_level: bool = False  # references from about the height of the source


@dataclass(frozen=True, eq=False)
class SliceBatch:
    """Slices on their way from a source site to a target site. Images lie channels-last."""

    images: Images
    neighbours: Images  # the slice above or below in the same volume, at random
    masks: Masks
    neighbour_masks: Masks
    references: Images  # of the target site
    second_references: Images  # of another subject there, where there is one
    source_site: Sites
    target_site: Sites
    subjects: tuple[str, ...]
    reference_subjects: tuple[str, ...]
    where: tuple[str, ...]  # each entry in words, for messages

    def __len__(self) -> int:
        return len(self.subjects)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


@dataclass(frozen=True, eq=False)
class Picks:
    """Which slices a batch holds, before any voxel is read."""

    source_site: np.ndarray
    target_site: np.ndarray
    source: np.ndarray  # volume
    slices: np.ndarray
    neighbours: np.ndarray
    reference: np.ndarray  # (2, batch), volume
    reference_slices: np.ndarray  # (2, batch)

    def part(self, rank: int, world: int) -> Self:
        """The part of one rank: consecutive entries, as many for each."""
        each = len(self.source) // world
        mine = slice(rank * each, (rank + 1) * each)
        return replace(self, **{name: value[..., mine] for name, value in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Groups:
    """Members of groups in one array: `members[start[g] : start[g] + count[g]]`."""

    members: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, groups: list[np.ndarray]) -> Self:
        count = np.array([len(group) for group in groups])
        return cls(np.concatenate(groups), np.cumsum(count) - count, count)

    def pick(self, group: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """One member of each group; `chance` in [0, 1) says which."""
        return self.members[self.start[group] + (chance * self.count[group]).astype(int)]


class SliceSampler:
    """Site by site in equal shares, then a subject of the site, one of its volumes, and a slice at random.

    What does not divide among the sites goes to each in turn, step by step. A pair of neighbouring slices is drawn
    uniformly from the volume's pairs; a coin says which of the two is the image. Nothing is flipped or otherwise
    augmented: hemispheres stay apart, and intensity and sharpness, by which a site is known, stay as they are.
    """

    def __init__(self, store: SliceStore, batch: int, seed: int = 0, config: DrawConfig | None = None) -> None:
        _check(store, batch)
        self.store, self.batch, self.seed, self.config = store, batch, seed, config or DrawConfig()
        numbers = store.table["site"].map({name: number for number, name in enumerate(store.sites)})
        # (site number, subject) -> volumes; a person scanned at two sites counts at each
        people = store.table.groupby([numbers, "subject"], sort=True).indices
        home = np.array([site for site, _ in people])
        self._subjects = Groups.of([np.flatnonzero(home == site) for site in range(len(store.sites))])
        self._volumes = Groups.of(list(people.values()))
        full = store.full()
        self._slices = Groups.of([np.flatnonzero(row) for row in full])
        self._pairs = Groups.of([np.flatnonzero(row[:-1] & row[1:]) for row in full])
        if not self._pairs.count.all():
            bare = store.table["subject"].to_numpy()[self._pairs.count == 0]
            raise ValueError(
                f"SliceSampler: no two neighbouring {store.plane} slices hold brain enough in {', '.join(bare)}; "
                "check their masks, or build the store with a smaller least_share"
            )

    def draw(self, step: int, rank: int = 0, world: int = 1) -> SliceBatch:
        """The batch of a step, or one rank's part of it; the parts of all ranks together are the whole batch."""
        if step < 0 or not 0 <= rank < world or self.batch % world:
            raise ValueError(
                "SliceSampler.draw: expected step >= 0, 0 <= rank < world and a batch that the ranks share evenly, "
                f"got step {step}, rank {rank} of {world}, batch {self.batch}"
            )
        picks = self.picks(step).part(rank, world)
        names = self.store.table["subject"].to_numpy()
        return SliceBatch(
            images=self._tensor("images", picks.source, picks.slices),
            neighbours=self._tensor("images", picks.source, picks.neighbours),
            masks=self._tensor("masks", picks.source, picks.slices),
            neighbour_masks=self._tensor("masks", picks.source, picks.neighbours),
            references=self._tensor("images", picks.reference[0], picks.reference_slices[0]),
            second_references=self._tensor("images", picks.reference[1], picks.reference_slices[1]),
            source_site=torch.from_numpy(picks.source_site),
            target_site=torch.from_numpy(picks.target_site),
            subjects=tuple(names[picks.source]),
            reference_subjects=tuple(names[picks.reference[0]]),
            where=self._where(picks),
        )

    def picks(self, step: int) -> Picks:
        """Which slices the whole batch of a step holds."""
        sites, number = len(self.store.sites), self.batch
        rng = stream(self.seed, "source slices", step)
        source_site = _shares(number, sites, step, rng)
        chance = rng.random((4, number))
        source = self._volumes.pick(self._subjects.pick(source_site, chance[0]), chance[1])
        lower, upper_first = self._pairs.pick(source, chance[2]), chance[3] < 0.5
        slices, neighbours = lower + upper_first, lower + ~upper_first

        rng = stream(self.seed, "reference slices", step)
        least = int(self.config.other_site)  # steps from the source's site to the target's
        target_site = (source_site + least + _shares(number, sites - least, step, rng)) % sites
        chance = rng.random((6, number))
        people = self._two_people(target_site, chance[:2])
        reference = self._volumes.pick(people, chance[2:4])
        levels = self._levels(source, slices, chance[4:]) if self.config.match_level else chance[4:]
        return Picks(
            source_site, target_site, source, slices, neighbours, reference, self._slices.pick(reference, levels)
        )

    def _two_people(self, site: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """(2, batch): two different subjects of each site; the same one twice where there is no other."""
        count = self._subjects.count[site]
        first = (chance[0] * count).astype(int)
        second = (first + (count > 1) + (chance[1] * (count - 1)).astype(int)) % count
        return self._subjects.members[self._subjects.start[site] + np.stack([first, second])]

    def _levels(self, volumes: np.ndarray, slices: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Where the slices lie in their brains, from 0 to below 1, and a little beside it."""
        start, count = self._slices.start[volumes], self._slices.count[volumes]
        first, last = self._slices.members[start], self._slices.members[start + count - 1]
        level = (slices - first + 0.5) / (last - first + 1)
        return np.clip(level + LEVEL_SPREAD * (2 * chance - 1), 0, 1 - 1e-9)

    def _where(self, picks: Picks) -> tuple[str, ...]:
        names, sites = self.store.table["subject"].to_numpy(), self.store.sites
        rows = zip(names[picks.source], picks.slices, picks.source_site, picks.target_site, strict=True)
        return tuple(
            f"{name} ({self.store.plane} slice {number}, {sites[source]} to {sites[target]})"
            for name, number, source, target in rows
        )

    def _tensor(self, name: str, volumes: np.ndarray, slices: np.ndarray) -> Tensor:
        taken = self.store.take(name, volumes, slices)
        channels_last = torch.from_numpy(taken.reshape(*taken.shape, 1))  # a stride of its own for the one channel
        return channels_last.permute(0, 3, 1, 2)


def _shares(number: int, groups: int, step: int, rng: np.random.Generator) -> np.ndarray:
    """A group for each of `number` entries: equal shares, what is left over to each group in turn, in random order."""
    return rng.permutation((step * number + np.arange(number)) % groups)


def _check(store: SliceStore, batch: int) -> None:
    if batch < 1:
        raise ValueError(f"SliceSampler: expected a batch of at least 1, got {batch}")
    if len(store.sites) < 2:
        raise ValueError(
            f"SliceSampler: expected at least two sites, got {', '.join(store.sites)}; "
            "a model translates between sites: add another site's rows"
        )
    if store.role in EVALUATION:
        raise ValueError(
            f"SliceSampler: this store holds role {store.role!r}, which nothing is trained on; "
            "build one with role 'train'"
        )
    bare = [site for site in store.sites if not len(store.volumes(site))]
    if bare:
        raise ValueError(f"SliceSampler: no volume of site {', '.join(bare)} in {store.folder}; add some, or drop it")
