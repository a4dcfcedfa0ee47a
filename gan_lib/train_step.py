"""One training step of the harmonisation GAN: which losses there are, and which networks each of them moves.

The schedules differ only in when the optimisers step; `separate` is StarGAN v2's order. A generator pass in styles
drawn from latent codes moves generator, mapping network and style encoder; one in styles of reference images moves
the generator alone. The temporal loss joins each generator pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lib import losses
from gan_lib.losses import LossWeights, TemporalKind
from gan_lib.networks import Discriminator, Generator, Images, MappingNetwork, NetworkConfig, StyleEncoder, Styles
from gan_lib.slices import SliceBatch

Kind = Literal["latent", "reference"]
Schedule = Literal["separate", "merged", "alternating"]
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class StepConfig:
    """How a step is taken; the defaults are the study's, as far as StarGAN v2's order is the study's."""

    weights: LossWeights = field(default_factory=LossWeights)
    temporal_kind: TemporalKind = "difference"
    # separate: two discriminator updates, then two of the generator (StarGAN v2). merged: one of each on the sum of
    # both kinds of styles. alternating: merged, but of one kind, latent in even iterations and reference in odd ones.
    schedule: Schedule = "separate"
    # Neighbours are translated for the temporal loss alone, or are full members of the batch: that loss is then free.
    neighbours_join: bool = False
    keep_background: bool = False  # translations are set to 0 outside the brain before anything looks at them


class Networks(nn.Module):
    """The four networks that are trained together."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.generator, self.mapping = Generator(config), MappingNetwork(config)
        self.encoder, self.discriminator = StyleEncoder(config), Discriminator(config)


@dataclass(frozen=True)
class Optimisers:
    """One per group of networks that move together."""

    generator: torch.optim.Optimizer
    mapping: torch.optim.Optimizer
    encoder: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer

    def of(self, kinds: Sequence[Kind]) -> list[torch.optim.Optimizer]:
        """Those that a generator update on these kinds of styles steps."""
        return [self.generator, self.mapping, self.encoder] if "latent" in kinds else [self.generator]


@dataclass(frozen=True)
class Members:
    """The slices of a batch that all losses see, with what belongs to each."""

    images: Images
    masks: Tensor
    source_site: Tensor
    target_site: Tensor


def members(batch: SliceBatch, config: StepConfig) -> Members:
    """The drawn slices, and behind them their neighbours where those join."""
    if not config.neighbours_join:
        return Members(batch.images, batch.masks, batch.source_site, batch.target_site)
    stacked = (torch.cat(pair) for pair in ((batch.images, batch.neighbours), (batch.masks, batch.neighbour_masks)))
    return Members(*stacked, batch.source_site.repeat(2), batch.target_site.repeat(2))


def groups_of(schedule: Schedule, iteration: int) -> list[tuple[Kind, ...]]:
    """Kinds of styles whose losses share an update, in the order of the updates."""
    match schedule:
        case "separate":
            return [("latent",), ("reference",)]
        case "merged":
            return [("latent", "reference")]
        case "alternating":
            return [("latent",)] if iteration % 2 == 0 else [("reference",)]
    raise ValueError(f"schedule: expected separate, merged or alternating; got {schedule!r}")


class Step:
    """One iteration on one batch. `latents` are two drafts of z per image, as the diversification needs two styles."""

    def __init__(
        self, networks: Networks, config: StepConfig, batch: SliceBatch, latents: tuple[Tensor, Tensor], iteration: int
    ) -> None:
        self.networks, self.config, self.batch, self.latents = networks, config, batch, latents
        self.iteration = iteration
        self.weights = config.weights.at(iteration)
        self.members = members(batch, config)
        self.groups = groups_of(config.schedule, iteration)

    def styles(self, kind: Kind, second: bool = False) -> Styles:
        """The target styles of the batch, one for a slice and its neighbour; those of references carry no gradient."""
        if kind == "latent":
            styles = self.networks.mapping(self.latents[int(second)], self.batch.target_site)
        else:
            references = self.batch.second_references if second else self.batch.references
            with torch.no_grad():
                styles = self.networks.encoder(references, self.batch.target_site)
        return styles.repeat(2, 1) if self.config.neighbours_join else styles

    def translate(self, images: Images, styles: Styles, masks: Tensor) -> Images:
        """G(x, s), without what it makes of the background if that is to stay."""
        translated = self.networks.generator(images, styles)
        return translated * masks if self.config.keep_background else translated

    def translation(self, kind: Kind) -> tuple[Styles, Images]:
        """Styles of one kind, and the members in them."""
        styles = self.styles(kind)
        return styles, self.translate(self.members.images, styles, self.members.masks)

    def discriminator_loss(self, fakes: Sequence[Images]) -> losses.Loss:
        """Real slices against fakes of each kind; the real pass is one for all of them, and counts for each."""
        real = self.members.images
        discriminator, n_kinds = self.networks.discriminator, len(fakes)
        real_logits = discriminator(real, self.members.source_site)
        fake_logits = discriminator(torch.cat([f.detach() for f in fakes]), self.members.target_site.repeat(n_kinds))
        adversarial, parts = losses.adversarial_discriminator(real_logits, fake_logits)
        found = {"adversarial": adversarial}
        if weight := self.weights.r1_at(self.iteration):
            found["r1"], _ = self._r1(real)
        total, named = losses.discriminator_total(found, weight)
        return n_kinds * total, parts | {k: v for k, v in named.items() if k != "adversarial"}

    def generator_loss(self, kind: Kind, styles: Styles, fakes: Images) -> losses.Loss:
        """All losses of one kind of styles. The discriminator is not moved, and by references no encoder either."""
        nets, members = self.networks, self.members
        with frozen(nets.discriminator), frozen(nets.encoder, when=kind == "reference"):
            found = self._temporal(styles, fakes) | self._diversification(kind, fakes)
            found["adversarial"], _ = losses.adversarial_generator(nets.discriminator(fakes, members.target_site))
            found["style"], _ = losses.style_reconstruction(styles, nets.encoder(fakes, members.target_site))
            own_styles = nets.encoder(members.images, members.source_site)
            found["cycle"], _ = losses.cycle(members.images, self.translate(fakes, own_styles, members.masks))
            if self.weights.identity:
                same = self.translate(members.images, own_styles, members.masks)
                found["identity"], _ = losses.identity(members.images, same)
            return losses.generator_total(found, self.weights)

    def _temporal(self, styles: Styles, fakes: Images) -> dict[str, Tensor]:
        if not self.weights.temporal:
            return {}
        batch = self.batch
        if self.config.neighbours_join:
            translated, neighbours = fakes.chunk(2)
        else:
            translated, neighbours = fakes, self.translate(batch.neighbours, styles, batch.neighbour_masks)
        slices = (batch.images, batch.neighbours, translated, neighbours)
        union = batch.masks | batch.neighbour_masks
        return {"temporal": losses.temporal(*slices, union, self.config.temporal_kind)[0]}

    def _diversification(self, kind: Kind, fakes: Images) -> dict[str, Tensor]:
        if not self.weights.diversification:  # decayed: the second translation is not needed any more
            return {}
        with torch.no_grad():
            others = self.translate(self.members.images, self.styles(kind, second=True), self.members.masks)
        return {"diversification": losses.diversification(fakes, others)[0]}

    def _r1(self, images: Images) -> losses.Loss:
        """In float32, the way back too: gradients of gradients are too coarse in bfloat16."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.detach().clone().requires_grad_()
            return losses.r1(self.networks.discriminator(images, self.members.source_site), images)


@contextmanager
def frozen(network: nn.Module, when: bool = True) -> Iterator[None]:
    """Inside, no gradient is computed for the network's weights; it still flows through to its inputs."""
    if not when:
        yield
        return
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
