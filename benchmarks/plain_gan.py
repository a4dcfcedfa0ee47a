"""The networks of StarGAN v2 written plainly, from the facts published about them: what ours are held against.

Every operation stands alone, in the order in which it is described: convolve then pool, upsample then convolve, the
branches of all sites. The parameters have our names, so that either side takes the other's weights.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lib.networks import SCALE, SHIFT, NetworkConfig

SLOPE = 0.2


class PlainNetworks(nn.Module):
    """Generator, mapping network, style encoder and discriminator; `load_state_dict` takes those of `Networks`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.generator, self.mapping = PlainGenerator(config), PlainMapping(config)
        self.encoder, self.discriminator = PlainSiteNetwork(config, config.style), PlainDiscriminator(config)


class PlainGenerator(nn.Module):
    """G: encode, two and two blocks at the bottleneck, decode in the style."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = [min(config.cap, config.width * 2**level) for level in range(config.generator_levels + 1)]
        self.residual, self.position = config.residual, config.position
        self.stem = nn.Conv2d(config.channels + (2 if config.position else 0), config.width, 3, padding=1)
        self.encode = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.encode.append(PlainBlock(inputs, outputs, normalised=True, halve=True))
        for _ in range(2):
            self.encode.append(PlainBlock(widths[-1], widths[-1], normalised=True, halve=False))
        self.decode = nn.ModuleList()
        for _ in range(2):
            self.decode.append(PlainStyledBlock(widths[-1], widths[-1], config.style, double=False))
        for inputs, outputs in pairwise(widths[::-1]):
            self.decode.append(PlainStyledBlock(inputs, outputs, config.style, double=True))
        self.norm = nn.InstanceNorm2d(config.width, affine=True)
        self.head = nn.Conv2d(config.width, config.channels, 1)

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        inputs = SCALE * images + SHIFT
        if self.position:
            height, width = images.shape[2:]
            row = torch.arange(height).to(images).view(1, 1, height, 1).expand(len(images), 1, height, width)
            column = torch.arange(width).to(images).view(1, 1, 1, width).expand(len(images), 1, height, width)
            inputs = torch.cat([inputs, (row - (height - 1) / 2) / 64, (column - (width - 1) / 2) / 64], dim=1)
        hidden = self.encode(self.stem(inputs))
        for block in self.decode:
            hidden = block(hidden, styles)
        translated = self.head(functional.leaky_relu(self.norm(hidden), SLOPE))
        return translated + images if self.residual else translated


class PlainMapping(nn.Module):
    """M: the branches of all sites are computed, then each image's own is taken."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.shared = nn.ModuleList([nn.Linear(n, hidden) for n in (config.latent, hidden, hidden, hidden)])
        sizes = [(hidden, hidden)] * 3 + [(hidden, config.style)]
        self.branches = nn.ModuleList([SiteWeights(inputs, outputs, config.sites) for inputs, outputs in sizes])

    def forward(self, latent: Tensor, site: Tensor) -> Tensor:
        hidden = latent
        for layer in self.shared:
            hidden = functional.relu(layer(hidden))
        styles = []
        for number in range(len(self.branches[0].weight)):
            branch = hidden
            for layer in self.branches[:-1]:
                branch = functional.relu(functional.linear(branch, layer.weight[number], layer.bias[number]))
            last = self.branches[-1]
            styles.append(functional.linear(branch, last.weight[number], last.bias[number]))
        return torch.stack(styles, dim=1)[torch.arange(len(site), device=site.device), site]


class PlainSiteNetwork(nn.Module):
    """E: halve to about 4 x 4, one convolution over what is left, one linear layer for every site."""

    def __init__(self, config: NetworkConfig, outputs: int) -> None:
        super().__init__()
        width, cap = config.discriminator_width or config.width, config.discriminator_cap or config.cap
        widths = [min(cap, width * 2**level) for level in range(config.encoder_levels + 1)]
        self.trunk = nn.Module()
        self.trunk.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.trunk.blocks = nn.Sequential()
        for inputs, features in pairwise(widths):
            self.trunk.blocks.append(PlainBlock(inputs, features, normalised=False, halve=True))
        left = [n // 2**config.encoder_levels for n in config.size]
        self.trunk.last = nn.Conv2d(widths[-1], widths[-1], left)
        self.branches = SiteWeights(widths[-1], outputs, config.sites)

    def forward(self, images: Tensor, site: Tensor) -> Tensor:
        hidden = self.trunk.blocks(self.trunk.stem(SCALE * images + SHIFT))
        hidden = functional.leaky_relu(self.trunk.last(functional.leaky_relu(hidden, SLOPE)), SLOPE).flatten(1)
        pairs = zip(self.branches.weight, self.branches.bias, strict=True)
        every = torch.stack([functional.linear(hidden, weight, bias) for weight, bias in pairs], dim=1)
        return every[torch.arange(len(site), device=site.device), site]


class PlainDiscriminator(PlainSiteNetwork):
    """D: the same with one logit per site."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, 1)

    def forward(self, images: Tensor, site: Tensor) -> Tensor:
        return super().forward(images, site).squeeze(1)


class PlainBlock(nn.Module):
    """(Norm,) LeakyReLU, 3 x 3, (pool,) (norm,) LeakyReLU, 3 x 3; beside it 1 x 1, (pool)."""

    def __init__(self, inputs: int, outputs: int, normalised: bool, halve: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = nn.InstanceNorm2d(inputs, affine=True) if normalised else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(inputs, affine=True) if normalised else nn.Identity()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.pool(self.first(functional.leaky_relu(self.norm1(images), SLOPE)))
        hidden = self.second(functional.leaky_relu(self.norm2(hidden), SLOPE))
        return (self.pool(self.shortcut(images)) + hidden) / 2**0.5


class PlainStyledBlock(nn.Module):
    """AdaIN, LeakyReLU, (upsample,) 3 x 3, AdaIN, LeakyReLU, 3 x 3; beside it (upsample,) 1 x 1."""

    def __init__(self, inputs: int, outputs: int, style: int, double: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1, self.norm2 = PlainStyledNorm(style, inputs), PlainStyledNorm(style, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest") if double else nn.Identity()

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        hidden = self.first(self.upsample(functional.leaky_relu(self.norm1(images, styles), SLOPE)))
        hidden = self.second(functional.leaky_relu(self.norm2(hidden, styles), SLOPE))
        return (self.shortcut(self.upsample(images)) + hidden) / 2**0.5


class PlainStyledNorm(nn.Module):
    """AdaIN: (1 + gamma) instance_norm(x) + beta."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.norm, self.affine = nn.InstanceNorm2d(channels, affine=False), nn.Linear(style, 2 * channels)

    def forward(self, images: Tensor, styles: Tensor) -> Tensor:
        gamma, beta = self.affine(styles)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * self.norm(images) + beta


class SiteWeights(nn.Module):
    """The linear layers of all sites."""

    def __init__(self, inputs: int, outputs: int, sites: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.zeros(sites, outputs, inputs)),
            nn.Parameter(torch.zeros(sites, outputs)),
        )
