"""One training step in StarGAN v2's order, plainly: four passes, each with its own update; R1 in every step.

The discriminator on latent styles, on reference styles; then generator, mapping network and style encoder on latent
styles, and the generator alone on reference styles. The losses are those of the study, the temporal one in both of the
latter. What two passes share is computed in each, and gradients flow wherever nothing stops them.
"""

import copy

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.plain_gan import PlainNetworks
from gan_lib.losses import LossWeights
from gan_lib.slices import SliceBatch
from gan_lib.training_state import TrainingConfig

Latents = tuple[Tensor, Tensor]
Parts = dict[str, Tensor]
MOVED = {"latent": ("generator", "mapping", "encoder"), "reference": ("generator",)}


class PlainTraining:
    """Networks, their optimisers (Adam as torch makes it), and the average of the weights."""

    def __init__(self, networks: PlainNetworks, config: TrainingConfig) -> None:
        self.networks, self.config, self.iteration = networks, config, 0
        self.average = copy.deepcopy(networks)
        rates = {"generator": config.learning_rate, "encoder": config.learning_rate, "mapping": config.mapping_rate}
        rates["discriminator"] = config.discriminator_rate or config.learning_rate
        shared = {"betas": config.betas, "weight_decay": config.weight_decay}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(getattr(networks, name).parameters(), lr=rate, **shared)
            for name, rate in rates.items()
        }

    def step(self, batch: SliceBatch, latents: Latents) -> Parts:
        """One iteration; gives the losses by name, as ours does."""
        parts: Parts = {}
        for kind in MOVED:
            loss, named = self.discriminator_loss(kind, batch, latents)
            self._update(loss, ("discriminator",))
            parts |= named
        for kind, moved in MOVED.items():
            loss, named = self.generator_loss(kind, batch, latents)
            self._update(loss, moved)
            parts |= {f"{name}_{kind}": value for name, value in named.items()}
        self._update_average()
        self.iteration += 1
        return {name: value.detach() for name, value in parts.items()}

    def styles(self, kind: str, batch: SliceBatch, latents: Latents, second: bool = False) -> Tensor:
        """The target styles that a pass is about."""
        if kind == "latent":
            return self.networks.mapping(latents[second], batch.target_site)
        references = batch.second_references if second else batch.references
        return self.networks.encoder(references, batch.target_site)

    def discriminator_loss(self, kind: str, batch: SliceBatch, latents: Latents) -> tuple[Tensor, Parts]:
        """Real against fake, and R1."""
        real = batch.images.detach().requires_grad_()
        real_logits = self.networks.discriminator(real, batch.source_site)
        (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
        with torch.no_grad():
            fakes = self.networks.generator(batch.images, self.styles(kind, batch, latents))
        fake_logits = self.networks.discriminator(fakes, batch.target_site)
        parts = {
            "discriminator_real": _cross_entropy(real_logits, 1.0),
            "discriminator_fake": _cross_entropy(fake_logits, 0.0),
            "r1": 0.5 * gradient.pow(2).sum(dim=(1, 2, 3)).mean(),
        }
        parts["discriminator"] = sum(parts.values()) + (self._weights().r1 - 1) * parts["r1"]
        return parts["discriminator"], parts

    def generator_loss(self, kind: str, batch: SliceBatch, latents: Latents) -> tuple[Tensor, Parts]:
        """Adversarial, style, cycle, diversification and temporal loss."""
        nets, weights, images = self.networks, self._weights(), batch.images
        styles = self.styles(kind, batch, latents)
        fakes = nets.generator(images, styles)
        with torch.no_grad():
            others = nets.generator(images, self.styles(kind, batch, latents, second=True))
        cycled = nets.generator(fakes, nets.encoder(images, batch.source_site))
        parts = {
            "adversarial": _cross_entropy(nets.discriminator(fakes, batch.target_site), 1.0),
            "style": functional.l1_loss(nets.encoder(fakes, batch.target_site), styles),
            "cycle": functional.l1_loss(cycled, images),
            "diversification": functional.l1_loss(fakes, others),
            "temporal": self._temporal(batch, fakes, nets.generator(batch.neighbours, styles)),
        }
        total = parts["adversarial"] + weights.style * parts["style"] + weights.cycle * parts["cycle"]
        total = total - weights.diversification * parts["diversification"]
        parts["generator"] = weights.star_gan * total + weights.temporal * parts["temporal"]
        return parts["generator"], parts

    def _temporal(self, batch: SliceBatch, fakes: Tensor, fake_neighbours: Tensor) -> Tensor:
        union = (batch.masks | batch.neighbour_masks).to(fakes.dtype)
        change = (fake_neighbours - fakes) - (batch.neighbours - batch.images)
        return ((change * union).abs().sum(dim=(1, 2, 3)) / union.sum(dim=(1, 2, 3))).mean()

    def _update(self, loss: Tensor, moved: tuple[str, ...]) -> None:
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        loss.backward()
        for name in moved:
            self.optimisers[name].step()

    def _weights(self) -> LossWeights:
        return self.config.step.weights.at(self.iteration)

    @torch.no_grad()
    def _update_average(self) -> None:
        pairs = zip(self.average.parameters(), self.networks.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, 1 - self.config.ema)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
