"""Random changes of volumes and networks in training; what is drawn comes from torch's generator of the device.

`replayed` sets that generator for a block, so that the same block run again draws the same numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cinp_lib.model import Networks, Volumes

LEFT_RIGHT, POSTERIOR_ANTERIOR, INFERIOR_SUPERIOR = 0, 1, 2  # the axes of a RAS volume


@dataclass(frozen=True)
class AugmentationConfig:
    """The study names noise, flips, scale and shift of intensity; all sizes are our choice. All 0 = none."""

    noise: float = 0.05  # a volume's noise has a deviation drawn from 0 to this; volumes lie in [0, 1]
    scale: float = 0.1  # factors from 1 - scale to 1 + scale
    shift: float = 0.1  # added, from -shift to shift
    flip: float = 0.5  # probability, for each of the axes
    flip_axes: tuple[int, ...] = (LEFT_RIGHT,)
    edge_noise: float = 0.0  # deviation of what is added to every edge; not in the study
    edge_dropout: float = 0.0  # share of edges set to 0; not in the study

    def __post_init__(self) -> None:
        for name in ("noise", "scale", "shift", "edge_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"AugmentationConfig.{name}: expected a number from 0 on, got {getattr(self, name)}")
        for name in ("flip", "edge_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"AugmentationConfig.{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        object.__setattr__(self, "flip_axes", tuple(self.flip_axes))
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise ValueError(f"AugmentationConfig.flip_axes: expected axes of 0, 1, 2, got {self.flip_axes}")


@contextmanager
def replayed(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch draws from this seed on; afterwards its generators are where they were before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def augmented_volumes(volumes: Volumes, config: AugmentationConfig) -> Volumes:
    """Every volume by itself; the background stays exactly 0."""
    for axis in config.flip_axes if config.flip else ():
        turned = _shares(volumes) < config.flip
        volumes = torch.where(turned, volumes.flip(axis + 2), volumes)
    brain = volumes != 0
    changed = volumes * (1 + config.scale * _uniform(volumes)) + config.shift * _uniform(volumes)
    if config.noise:
        changed = changed + config.noise * _shares(volumes) * torch.randn_like(volumes)
    return torch.where(brain, changed, torch.zeros_like(volumes))


def augmented_networks(networks: Networks, config: AugmentationConfig) -> Networks:
    """Noise on edges, and edges set to 0, both alike in either direction; the diagonal and missing regions stay."""
    there = torch.diagonal(networks, dim1=1, dim2=2) != 0  # a missing region has 0 there too
    edges = there[:, :, None] & there[:, None] & ~torch.eye(networks.shape[1], device=networks.device, dtype=torch.bool)
    if config.edge_noise:
        drawn = torch.randn_like(networks).triu(1)
        networks = networks + config.edge_noise * torch.where(edges, drawn + drawn.mT, torch.zeros_like(networks))
    if config.edge_dropout:
        dropped = (torch.rand_like(networks) < config.edge_dropout).triu(1)
        networks = networks.masked_fill((dropped | dropped.mT) & edges, 0.0)
    return networks


def _shares(volumes: Volumes) -> Tensor:
    """One number from 0 to 1 for each volume."""
    return torch.rand(len(volumes), 1, 1, 1, 1, device=volumes.device, dtype=volumes.dtype)


def _uniform(volumes: Volumes) -> Tensor:
    return 2 * _shares(volumes) - 1
