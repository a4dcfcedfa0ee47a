"""What a batch of features and reconstructions costs, and the random choice of strangers for the matching loss."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Int

from cinp_lib import losses
from cinp_lib.losses import Loss, LossWeights, NegativeRule, Region
from cinp_lib.model import Cinp, Features

Contrastive = Literal["infonce", "siglip"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """The defaults are the study's, as far as it tells."""

    weights: LossWeights = field(default_factory=LossWeights)
    contrastive: Contrastive = "infonce"
    over: Region = "volume"  # voxels of the reconstruction loss
    negatives: NegativeRule = "hard"  # of the matching loss; the study's rule is not known

    def __post_init__(self) -> None:
        for name, known in (("contrastive", Contrastive), ("over", Region), ("negatives", NegativeRule)):
            if (got := getattr(self, name)) not in get_args(known):
                raise ValueError(f"ObjectiveConfig.{name}: expected {' or '.join(get_args(known))}, got {got!r}")

    @property
    def pairs(self) -> bool:
        """Whether any loss compares images with networks."""
        return bool(self.weights.contrastive or self.weights.matching)

    @property
    def reconstructs(self) -> bool:
        """Whether the masked image and the decoder are needed."""
        return bool(self.weights.reconstruction)


def pair_loss(
    model: Cinp,
    features: tuple[Features, Features],
    config: ObjectiveConfig,
    families: Int[np.ndarray, " batch"],
    rng: np.random.Generator,
) -> Loss:
    """Contrastive loss plus beta times the matching loss, of the features of images and networks of a whole batch."""
    images, networks = model.align(*features)
    loss, parts = torch.zeros((), device=images.device), {"tau": model.tau.detach()}
    if weight := config.weights.contrastive:
        contrastive, found = contrastive_loss(model, images, networks, config)
        loss, parts = loss + weight * contrastive, parts | found
    if weight := config.weights.matching:
        matching, found = matching_loss(model, images, networks, config, (families, rng))
        loss, parts = loss + weight * matching, parts | found
    return loss, parts


def contrastive_loss(model: Cinp, images: Features, networks: Features, config: ObjectiveConfig) -> Loss:
    """The one of the two that is chosen."""
    if config.contrastive == "siglip":
        return losses.siglip(images, networks, model.tau, model.sigmoid_bias)
    return losses.image_network_contrastive(images, networks, model.tau)


def matching_loss(
    model: Cinp,
    images: Features,
    networks: Features,
    config: ObjectiveConfig,
    drawing: tuple[Int[np.ndarray, " batch"], np.random.Generator],
) -> Loss:
    """Own pairs, every image with a stranger's network, and every network with a stranger's image."""
    families, rng = drawing
    similarity = (images.detach() @ networks.detach().T / model.tau.detach()).float().cpu().numpy()
    chosen = losses.matching_negatives(similarity, rng, config.negatives, families)
    other_networks, other_images = (torch.from_numpy(places).to(images.device) for places in chosen)
    sides = torch.cat([images, images, images[other_images]]), torch.cat([networks, networks[other_networks], networks])
    matches = torch.arange(len(sides[0]), device=images.device) < len(images)
    return losses.image_network_matching(model.match(*sides), matches)
