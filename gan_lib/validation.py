"""How good a generator is on people it has not seen, without pairs: the criterion for the best state of training."""

from dataclasses import dataclass

import numpy as np

from gan_lib.slices import SliceStore
from gan_lib.train_step import Networks
from gan_lib.translation import Stack, StackMask, Style, translate_stack, volume_style

QUANTILES = np.linspace(0.01, 0.99, 50)
EVERY = 6  # slices between those that are looked at


@dataclass(frozen=True)
class ValidationError:
    """Mean over ordered pairs of sites, in the study's normalised units; less is better for all three."""

    intensity: float  # distance of the brain's intensities from those of the target's own validation volumes
    texture: float  # the same of the in-plane steps from pixel to pixel
    cycle: float  # error after the way there and back, each in its site's mean style

    @property
    def total(self) -> float:
        """The criterion: likeness to the target. The cycle error stands beside it: it grows with all that is changed.

        With the cycle error in the sum, a trial on another phantom cohort kept a state from half of the way, and the
        last state was nearer to the real scans of travelling subjects.
        """
        return self.intensity + self.texture


@dataclass(frozen=True)
class _Slices:
    """Some slices of a volume, and its site."""

    images: Stack
    masks: StackMask
    site: int


def validation_error(networks: Networks, training: SliceStore, validation: SliceStore) -> ValidationError:
    """Translate every validation volume to every other site, in the mean styles of training volumes, and back.

    Distances are those of distributions (1-Wasserstein: mean distance of quantiles): other people are at each site, so
    they do not reach 0. Networks in eval mode; `training` and `validation` are of one box and one order of sites.
    """
    sites = range(len(training.sites))
    styles = [_site_style(networks, training, site) for site in sites]
    volumes = [_slices(validation, index) for index in range(len(validation))]
    real = {site: _signature([v for v in volumes if v.site == site]) for site in sites}
    distances, cycles = [], []
    for target in sites:
        for source in sites:
            members = [volume for volume in volumes if volume.site == source]
            if source == target or not members or real[target] is None:
                continue
            there = [_translated(networks, volume, styles[target]) for volume in members]
            back = [_translated(networks, volume, styles[source]) for volume in there]
            distances.append(np.abs(_signature(there) - real[target]).mean(axis=1))
            cycles.append(_mean_error(members, back))
    if not cycles:
        raise ValueError(
            f"validation: expected volumes of at least two sites, got {sorted(set(validation.table['site']))}; "
            "give more subjects the role validation, or train without it"
        )
    intensity, texture = np.mean(distances, axis=0)
    return ValidationError(float(intensity), float(texture), float(np.mean(cycles)))


def _site_style(networks: Networks, store: SliceStore, site: int) -> Style:
    members = [_slices(store, index) for index in store.volumes(store.sites[site])]
    return np.mean([volume_style(networks.encoder, member.images, site) for member in members], axis=0)


def _slices(store: SliceStore, index: int) -> _Slices:
    chosen = np.flatnonzero(store.full()[index])[::EVERY]
    images, masks = (store.take(name, np.full_like(chosen, index), chosen) for name in ("images", "masks"))
    return _Slices(images, masks, store.sites.index(store.table["site"][index]))


def _translated(networks: Networks, volume: _Slices, style: Style) -> _Slices:
    images = translate_stack(networks.generator, volume.images, style)
    return _Slices(np.where(volume.masks, np.clip(images, 0, 1), 0).astype(np.float32), volume.masks, volume.site)


def _signature(volumes: list[_Slices]) -> np.ndarray | None:
    """(2, quantile): of intensities, and of absolute steps between neighbours that both are brain."""
    if not volumes:
        return None
    images, masks = (np.concatenate([getattr(v, name) for v in volumes]) for name in ("images", "masks"))
    steps = [
        np.abs(np.diff(images, axis=axis))[masks.take(range(1, n), axis) & masks.take(range(n - 1), axis)]
        for axis, n in ((1, images.shape[1]), (2, images.shape[2]))
    ]
    return np.stack([np.quantile(images[masks], QUANTILES), np.quantile(np.concatenate(steps), QUANTILES)])


def _mean_error(first: list[_Slices], second: list[_Slices]) -> float:
    differences = [np.abs(a.images - b.images)[a.masks] for a, b in zip(first, second, strict=True)]
    return float(np.concatenate(differences).mean())
