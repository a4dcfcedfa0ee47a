"""A trained model in memory: its networks, and all that is needed to use them on other people's scans."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from gan_lib.networks import Generator, MappingNetwork, NetworkConfig, StyleEncoder
from gan_lib.slices import SliceBox, SliceStore
from study_lib.grid import Grid
from study_lib.intensity import Normaliser

# The networks that a model keeps, by the name of their attribute and file. The discriminator's work ends with training.
NETWORKS: dict[str, type[nn.Module]] = {
    "generator": Generator,
    "style_encoder": StyleEncoder,
    "mapping": MappingNetwork,
}


@dataclass(frozen=True)
class SliceView:
    """How the model looks at a volume in one plane; `least_brain` is the fewest voxels of a slice it trained on."""

    box: SliceBox
    least_brain: int

    @classmethod
    def of(cls, store: SliceStore) -> "SliceView":
        """That of the slices in a store."""
        height, width = store.inner.size
        return cls(store.box, int(np.ceil(store.config.least_share * height * width)))


@dataclass(frozen=True, eq=False)
class Site:
    """A training site. `styles` holds, for every plane, the mean style of its training volumes."""

    name: str
    subjects: int
    styles: Mapping[str, np.ndarray]
    scanner: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """What a model is, apart from its weights. `views` has one entry per plane it was trained on."""

    networks: NetworkConfig
    grid: Grid
    views: Mapping[str, SliceView]
    normaliser: Normaliser
    sites: tuple[Site, ...]  # in the order of the networks' branches
    iterations: int

    def __post_init__(self) -> None:
        names, networks = [site.name for site in self.sites], self.networks
        if len(names) != networks.sites or len(set(names)) != len(names):
            raise ValueError(
                f"sites: expected {networks.sites} different names, one per branch; got {', '.join(names)}"
            )
        if not self.views:
            raise ValueError("views: expected at least one plane that the model was trained on; got none")
        for plane, view in self.views.items():
            if view.box.plane != plane or view.box.size != networks.size:
                raise ValueError(
                    f"views: expected {plane} slices of {networks.size} (height, width); got {view.box.plane} ones of "
                    f"{view.box.size}: pad the box to the size of the networks (SliceStore.in_plane(plane, size=...))"
                )
        for site in self.sites:
            for plane in self.views:
                style = np.asarray(site.styles.get(plane, ()))
                if style.shape != (networks.style,) or not np.isfinite(style).all():
                    raise ValueError(
                        f"site {site.name}: expected a {plane} style of {networks.style} finite numbers; got shape "
                        f"{style.shape}: gan_lib.translation.volume_style makes one of every training volume"
                    )


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Networks in eval mode, with what is needed to use them. `checksum` is that of the folder it was read from."""

    config: ModelConfig
    generator: nn.Module
    style_encoder: nn.Module
    mapping: nn.Module
    checksum: str = ""

    def to(self, device: torch.device) -> "TrainedModel":
        """The same model on a device."""
        for name in NETWORKS:
            getattr(self, name).to(device)
        return self
