"""A few fixed slices that are translated again and again while training goes on."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from gan_lib.model_making import mean_style
from gan_lib.slices import SliceStore
from gan_lib.train_step import Networks
from gan_lib.translation import Stack, translate_stack


@dataclass(frozen=True, eq=False)
class Panel:
    """One middle slice per site, in the order of `sites`, and where it is translated to."""

    images: Stack
    masks: Stack
    sites: tuple[str, ...]
    target: str

    @classmethod
    def of(cls, store: SliceStore, target: str) -> Self:
        """From the first volume of every site that the store holds."""
        if target not in store.sites:
            raise ValueError(f"panel: expected a target among {', '.join(store.sites)}, got {target!r}")
        # `SliceStore.volumes` gives row numbers, no table
        members = {site: store.volumes(site) for site in store.sites}
        first = np.array([numbers[0] for numbers in members.values() if len(numbers)])
        middle = np.array([int(np.argmax(store.areas[store.plane][index])) for index in first])
        images, masks = (store.take(name, first, middle) for name in ("images", "masks"))
        return cls(images, masks, tuple(site for site, numbers in members.items() if len(numbers)), target)

    def translated(self, networks: Networks, store: SliceStore) -> Stack:
        """All slices in the mean style of the target's training volumes."""
        style = mean_style(networks.encoder, store, self.target)
        images = translate_stack(networks.generator, self.images, style)
        return np.where(self.masks, np.clip(images, 0, 1), 0).astype(np.float32)
