"""The pre-training model: an image encoder and a network encoder whose embeddings meet, and a decoder beside them.

Two stages, so that a large batch can be cut into chunks: `see` and the network encoder look at each pair by itself;
`align` looks at the features of the whole batch, standardises and projects them. Without the first of these the pooled
features of different people start almost alike, and the contrastive loss stays at the logarithm of the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.image_encoder import ImageDecoder, ImageEncoder
from cinp_lib.masking import apply_mask
from cinp_lib.network_encoder import NetworkEncoder, NetworkEncoderConfig
from cinp_lib.principal_components import PrincipalComponents
from cinp_lib.voxel_standardiser import VoxelStandardiser

Volumes = Float[Tensor, "batch 1 x y z"]
Masks = Bool[Tensor, "batch 1 x y z"]
Networks = Float[Tensor, "batch region region"]
Features = Float[Tensor, "batch feature"]
Matching = Literal["concatenation", "product"]
SIGMOID_BIAS = -10.0  # SigLIP's start: nearly all pairs of a batch are strangers


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and the temperature; what the study does not tell is our choice."""

    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    network: NetworkEncoderConfig = field(default_factory=NetworkEncoderConfig)
    embedding: int = 768  # the study's
    standardise: bool = True  # features over the batch, before the projections
    feature_dropout: float = 0.0  # of standardised features, and of components
    # Volumes by their distance from the training volumes' mean, voxel by voxel; not in the study.
    voxelwise: bool = False
    # Principal components of volumes and of edges, beside what the encoders see in them; ours, not in the study.
    components: int = 0
    mask_fill: float = 0.0  # what hidden voxels hold; 0 is the background's value, or with `voxelwise` the mean
    tau: float = 0.07  # at the start; the study's is not known
    tau_limits: tuple[float, float] = (0.01, 1.0)
    # The study's matching layer sees v and w side by side. Linear in both, it cannot see whether they fit each other:
    # "product" gives it v * w as well.
    matching: Matching = "concatenation"

    def __post_init__(self) -> None:
        low, high = self.tau_limits
        if not 0 < low <= self.tau <= high:
            raise ValueError(f"ModelConfig.tau: expected 0 < {low} <= tau <= {high}, got {self.tau}")
        if not 0 <= self.feature_dropout < 1:
            raise ValueError(f"ModelConfig.feature_dropout: expected a share below 1, got {self.feature_dropout}")
        if self.embedding < 2:
            raise ValueError(f"ModelConfig.embedding: expected at least 2, got {self.embedding}")
        if self.components < 0 or (self.components and not self.voxelwise):
            raise ValueError(
                "ModelConfig.components: expected 0, or some of volumes with voxelwise=True; got "
                f"{self.components} with voxelwise={self.voxelwise}"
            )
        if self.matching not in get_args(Matching):
            raise ValueError(f"ModelConfig.matching: expected {' or '.join(get_args(Matching))}, got {self.matching!r}")


@dataclass(frozen=True)
class Views:
    """What is seen of images by themselves: features of I, and the reconstruction of I from I* where asked for."""

    features: Features
    reconstructions: Volumes | None


@dataclass(frozen=True)
class Pairs:
    """Figure 1's outputs: v_I and w_N of length 1, and the reconstruction."""

    image_embeddings: Features
    network_embeddings: Features
    reconstructions: Volumes | None


class Projection(nn.Module):
    """Features over the batch to mean 0 and deviation 1, then one linear layer, then length 1; never in 16 bits.

    Components, where there are any, come behind the encoder's features, and have a linear layer of their own. The
    encoder's then begins at 0, so that it adds to what components say.
    """

    def __init__(self, features: int, embedding: int, config: "ModelConfig") -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(features, affine=False) if config.standardise else nn.Identity()
        self.dropout, self.linear = nn.Dropout(config.feature_dropout), nn.Linear(features, embedding)
        self.of_components = nn.Linear(config.components, embedding, bias=False) if config.components else None
        if self.of_components is not None:
            nn.init.normal_(self.of_components.weight, std=0.01)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, features: Features) -> Features:
        with torch.autocast(features.device.type, enabled=False):
            own, components = features.to(self.linear.weight.dtype).tensor_split([self.linear.in_features], dim=1)
            projected = self.linear(self.dropout(self.standardise(own)))
            if self.of_components is not None:
                projected = projected + self.of_components(self.dropout(components))
            return functional.normalize(projected, dim=-1)


class Cinp(nn.Module):
    """Contrastive image-network pre-training."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.voxels = VoxelStandardiser(config.image.size) if config.voxelwise else None
        self.image_encoder, self.decoder = ImageEncoder(config.image), ImageDecoder(config.image)
        self.network_encoder = NetworkEncoder(config.network)
        self.image_components = self.network_components = None
        if config.components:
            regions = config.network.regions
            self.image_components = PrincipalComponents(math.prod(config.image.size), config.components)
            self.network_components = PrincipalComponents(regions * (regions - 1) // 2, config.components)
        self.image_projection = Projection(config.image.embedding, config.embedding, config)
        self.network_projection = Projection(config.network.embedding, config.embedding, config)
        self.matching = nn.Linear({"concatenation": 2, "product": 3}[config.matching] * config.embedding, 2)
        self.log_tau = nn.Parameter(torch.tensor(math.log(config.tau)))
        self.sigmoid_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS))  # of the SigLIP loss alone

    def forward(self, volumes: Volumes, masks: Masks | None, networks: Networks) -> Pairs:
        """Figure 1: I and I* through the image encoder, I* on through the decoder, N through the network encoder."""
        views = self.see(volumes, masks)
        image_embeddings, network_embeddings = self.align(views.features, self.read(networks))
        return Pairs(image_embeddings, network_embeddings, views.reconstructions)

    def see(self, volumes: Volumes, masks: Masks | None, masked: Sequence[int] | None = None) -> Views:
        """The image encoder on I and I* in one pass, and the decoder on the deepest map of I*.

        `masks` None: I alone. `masked`: the volumes that the masks belong to, if not to all of them in order.
        """
        volumes = volumes if self.voxels is None else self.voxels(volumes)
        if masks is None:
            return Views(self.image_features(self.image_encoder(volumes).pooled, volumes), None)
        own, chosen = len(volumes), volumes if masked is None else volumes[list(masked)]
        seen = self.image_encoder(torch.cat([volumes, apply_mask(chosen, masks, self.config.mask_fill)]))
        rebuilt = self.decoder(seen.grid[own:])
        features = self.image_features(seen.pooled[:own], volumes)
        return Views(features, rebuilt if self.voxels is None else self.voxels.restore(rebuilt))

    def image_features(self, pooled: Features, volumes: Volumes) -> Features:
        """What the encoder saw of volumes, and their components behind it."""
        if self.image_components is None:
            return pooled
        return torch.cat([pooled, self.image_components(volumes.flatten(1)).to(pooled.dtype)], dim=1)

    def read(self, networks: Networks) -> Features:
        """What the network encoder sees, and components of the edges behind it."""
        seen = self.network_encoder(networks)
        if self.network_components is None:
            return seen
        return torch.cat([seen, self.network_components(known_edges(networks)).to(seen.dtype)], dim=1)

    def align(self, image_features: Features, network_features: Features) -> tuple[Features, Features]:
        """v_I and w_N of a whole batch of features."""
        if self.training and len(image_features) < 2:
            raise ValueError(
                f"a batch of {len(image_features)}: expected at least two pairs, as features are standardised over the "
                "batch and a pair is told from others; use a larger batch, or eval mode to embed single scans"
            )
        return self.image_projection(image_features), self.network_projection(network_features)

    def match(self, image_embeddings: Features, network_embeddings: Features) -> Float[Tensor, "batch 2"]:
        """Logits of "another's" and "the same subject's", row by row."""
        sides = [image_embeddings, network_embeddings]
        if self.config.matching == "product":  # scaled, so that its numbers are as large as those beside it
            sides.append(image_embeddings * network_embeddings * math.sqrt(self.config.embedding))
        return self.matching(torch.cat(sides, dim=1))

    def embed_images(self, volumes: Volumes) -> Features:
        """v_I in eval mode, one scan or many."""
        self._check_eval()
        return self.image_projection(self.see(volumes, None).features)

    def embed_networks(self, networks: Networks) -> Features:
        """w_N in eval mode."""
        self._check_eval()
        return self.network_projection(self.read(networks))

    @property
    def tau(self) -> Tensor:
        """The temperature itself."""
        return self.log_tau.exp()

    @torch.no_grad()
    def clamp_tau(self) -> None:
        """Back into its limits, after an update."""
        low, high = (math.log(limit) for limit in self.config.tau_limits)
        self.log_tau.clamp_(low, high)

    def _check_eval(self) -> None:
        if self.training:
            raise ValueError(
                "embedding: expected a model in eval mode, or scans would depend on each other; call eval()"
            )


def known_edges(networks: Networks) -> Float[Tensor, "batch edge"]:
    """Every edge once, in the order of `connectivity.edges`; NaN where one of its regions is missing."""
    row, column = torch.triu_indices(*networks.shape[1:], offset=1, device=networks.device)
    missing = torch.diagonal(networks, dim1=1, dim2=2) == 0
    return networks[:, row, column].masked_fill(missing[:, row] | missing[:, column], torch.nan)
