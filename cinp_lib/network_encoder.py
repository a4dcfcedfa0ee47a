"""The network encoder of the study: the Brain Network Transformer (Kan et al. 2022) on functional networks.

A region's features are its row of the correlation matrix. Two things differ from the authors' code: all cluster centres
are orthonormal (there the first is left at another length), and regions without signal take no part.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Networks = Float[Tensor, "batch region region"]
Missing = Bool[Tensor, "batch region"]


@dataclass(frozen=True)
class NetworkEncoderConfig:
    """Sizes of the Brain Network Transformer; the defaults are the study's."""

    regions: int = 116  # of the AAL atlas
    layers: int = 2
    heads: int = 4
    hidden: int = 1024  # of the layers between attentions
    clusters: int = 100
    bottleneck: int = 32  # of the fully connected layers before the readout
    reduced: int = 8  # numbers that are left of every cluster
    embedding: int = 768
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("regions", "layers", "heads", "hidden", "clusters", "bottleneck", "reduced", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"NetworkEncoderConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.regions % self.heads:
            works = max(n for n in range(1, self.heads) if self.regions % n == 0)
            raise ValueError(
                f"NetworkEncoderConfig.heads: {self.heads} heads cannot share {self.regions} regions equally; use "
                f"{works} heads, or leave regions out until {self.regions - self.regions % self.heads} are left"
            )
        if self.clusters > self.regions:
            raise ValueError(
                f"NetworkEncoderConfig.clusters: {self.clusters} centres cannot be orthogonal in {self.regions} "
                f"dimensions; use at most {self.regions}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"NetworkEncoderConfig.dropout: expected 0 <= dropout < 1, got {self.dropout}")


class NetworkEncoder(nn.Module):
    """w_N before projection and normalisation."""

    def __init__(self, config: NetworkEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(config.regions, config.heads, config.hidden, config.dropout, batch_first=True)
            for _ in range(config.layers)
        )
        self.readout = Readout(config.regions, config.clusters, config.bottleneck)
        self.reduce = nn.Linear(config.regions, config.reduced)
        self.head = nn.Linear(config.clusters * config.reduced, config.embedding)

    def forward(self, networks: Networks) -> Float[Tensor, "batch embedding"]:
        regions, missing = self._regions(networks)
        clusters = functional.leaky_relu(self.reduce(self.readout(regions, missing)))
        return self.head(rearrange(clusters, "batch cluster number -> batch (cluster number)"))

    def assignment(self, networks: Networks) -> Float[Tensor, "batch region cluster"]:
        """How much every region gives to every cluster; rows add to 1, those of missing regions are 0."""
        _, shares = self.readout.assign(*self._regions(networks))
        return shares

    def _regions(self, networks: Networks) -> tuple[Networks, Missing]:
        """Regions after attention to one another, and which are missing."""
        self._check(networks)
        missing = missing_regions(networks)
        if (nothing := missing.all(1)).any():
            raise ValueError(f"networks {_numbers(nothing)} of the batch: every region is missing; leave them out")
        padding = missing if missing.any() else None
        for layer in self.layers:
            networks = layer(networks, src_key_padding_mask=padding)
        return networks, missing

    def _check(self, networks: Networks) -> None:
        regions = self.config.regions
        if networks.ndim != 3 or tuple(networks.shape[1:]) != (regions, regions):
            raise ValueError(
                f"network encoder: expected networks of (batch, {regions}, {regions}), got {tuple(networks.shape)}; "
                "NetworkEncoderConfig.regions is the number of the atlas' regions"
            )
        if (broken := ~networks.isfinite().all(2).all(1)).any():
            raise ValueError(
                f"networks {_numbers(broken)} of the batch hold NaN or infinity; rows and columns of missing regions "
                "are to be 0, as `connectivity` leaves them"
            )


class Readout(nn.Module):
    """OCRead: regions are summed up by clusters, whose orthonormal centres are not trained."""

    def __init__(self, regions: int, clusters: int, bottleneck: int) -> None:
        super().__init__()
        flat = regions * regions
        self.mix = nn.Sequential(
            nn.Linear(flat, bottleneck),
            nn.LeakyReLU(),
            nn.Linear(bottleneck, bottleneck),
            nn.LeakyReLU(),
            nn.Linear(bottleneck, flat),
        )
        self.register_buffer("centres", nn.init.orthogonal_(torch.empty(clusters, regions)))

    def forward(self, regions: Networks, missing: Missing) -> Float[Tensor, "batch cluster feature"]:
        mixed, shares = self.assign(regions, missing)
        return shares.mT @ mixed

    def assign(self, regions: Networks, missing: Missing) -> tuple[Networks, Float[Tensor, "batch region cluster"]]:
        """z, regions mixed with one another, and their shares: softmax over k of (z e_k)^2 / |e_k|, all |e_k| = 1."""
        present = regions.masked_fill(missing[..., None], 0.0)
        mixed = self.mix(rearrange(present, "batch region feature -> batch (region feature)"))
        mixed = rearrange(mixed, "batch (region feature) -> batch region feature", region=regions.shape[1])
        shares = (mixed @ self.centres.T).square().softmax(-1)
        return mixed, shares.masked_fill(missing[..., None], 0.0)


def missing_regions(networks: Networks) -> Missing:
    """Regions that are correlated with nothing: their row is 0 beside the diagonal."""
    off_diagonal = ~torch.eye(networks.shape[1], dtype=torch.bool, device=networks.device)
    return ((networks == 0) | ~off_diagonal).all(2)


def _numbers(chosen: Bool[Tensor, " batch"]) -> str:
    return ", ".join(map(str, chosen.nonzero().flatten().tolist()))
