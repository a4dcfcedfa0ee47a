"""The four networks of the study, after the facts published about StarGAN v2: generator, mapping network, style
encoder, discriminator. The mapping network, the style encoder and the discriminator have one output branch per site.

Their blocks are in `gan_lib.layers`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gan_lib.layers import EncoderBlock, InstanceNorm, SiteLinear, Sites, StyledBlock, Styles, initialise, relu

BOTTLENECK_SIZE = 16  # the shorter side of the generator's bottleneck, where the image is large enough
# Images are in [0, 1], background 0; the networks see 3 x - 2. StarGAN v2 has [-1, 1]; with the brain in the middle of
# [0, 1], as normalisation leaves it, a discriminator learns nothing in 300 iterations, so scaled it learns most.
SCALE, SHIFT = 3.0, -2.0

Images = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the four networks; the defaults are the study's faithful 256-pixel ones."""

    sites: int = 4
    size: tuple[int, int] = (256, 256)  # height, width
    channels: int = 1
    width: int = 64  # channels at full resolution
    cap: int = 512  # most channels anywhere
    latent: int = 16
    style: int = 64
    hidden: int = 512  # of the mapping network
    discriminator_width: int | None = None  # also of the style encoder; None = `width`
    discriminator_cap: int | None = None  # None = `cap`
    residual: bool = False  # the generator's output is added to its input; not in the study
    position: bool = False  # the generator is told where in the slice a pixel lies; not in the study

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        numbers = ("sites", "channels", "width", "cap", "latent", "style", "hidden")
        for name in numbers:
            if getattr(self, name) < 1:
                raise ValueError(f"NetworkConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 16 or self.size != self.padded(self.size):
            works = self.padded(self.size) if len(self.size) == 2 else "(256, 256)"
            raise ValueError(
                f"NetworkConfig.size: {self.size} (height, width) cannot be halved {self.encoder_levels} times; "
                f"pad the slices with background to {works}"
            )

    @property
    def generator_levels(self) -> int:
        """How often the generator halves the image: at 256 four times, down to 16."""
        return max(1, self._halvings(self.size) - int(math.log2(BOTTLENECK_SIZE)))

    @property
    def encoder_levels(self) -> int:
        """How often the style encoder and the discriminator halve it: at 256 six times, down to 4."""
        return self._halvings(self.size) - 2

    @classmethod
    def padded(cls, size: tuple[int, int]) -> tuple[int, int]:
        """The next size that works, for slices of `size`; its sides need not be equal."""
        size = tuple(max(16, n) for n in size)
        step = 2 ** (cls._halvings(size) - 2)
        larger = tuple(math.ceil(n / step) * step for n in size)
        return larger if cls._halvings(larger) == cls._halvings(size) else cls.padded(larger)

    @staticmethod
    def _halvings(size: tuple[int, int]) -> int:
        return int(math.log2(max(16, min(size))))


class Generator(nn.Module):
    """G(x, s): a slice in the style s. The output is unbounded, as in the study."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = _widths(config.width, config.cap, config.generator_levels)
        deepest = widths[-1]
        self.residual, self.position = config.residual, config.position
        self.stem = nn.Conv2d(config.channels + 2 * config.position, widths[0], 3, padding=1)
        down = [EncoderBlock(a, b, normalised=True, halve=True) for a, b in pairwise(widths)]
        down += [EncoderBlock(deepest, deepest, normalised=True) for _ in range(2)]
        up = [StyledBlock(deepest, deepest, config.style) for _ in range(2)]
        back = widths[::-1]
        up += [StyledBlock(a, b, config.style, double=True) for a, b in pairwise(back)]
        self.encode, self.decode = nn.Sequential(*down), nn.ModuleList(up)
        self.norm = InstanceNorm(widths[0])
        self.head = nn.Conv2d(widths[0], config.channels, 1)
        initialise(self)
        if config.residual:  # begins by changing nothing
            nn.init.zeros_(self.head.weight)

    def forward(self, images: Images, styles: Styles) -> Images:
        # Rows behind one another: so laid out, the norms cost least, and they are what takes the time here.
        inputs = _scaled(images).flatten(1).view(images.shape)
        hidden = self.encode(self.stem(with_position(inputs) if self.position else inputs))
        for block in self.decode:
            hidden = block(hidden, styles)
        out = self.head(relu(self.norm(hidden)))
        return images + out if self.residual else out


class MappingNetwork(nn.Module):
    """M(z): a style of a site, drawn by a latent code."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        shared = [config.latent, *[config.hidden] * 4]
        branch = [*[config.hidden] * 4, config.style]
        self.shared = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(shared))
        self.branches = nn.ModuleList(SiteLinear(a, b, config.sites) for a, b in pairwise(branch))
        initialise(self)

    def forward(self, latent: Float[Tensor, "batch latent"], site: Sites) -> Styles:
        hidden = latent
        for layer in self.shared:
            hidden = functional.relu(layer(hidden))
        for layer in self.branches[:-1]:
            hidden = functional.relu(layer(hidden, site))
        return self.branches[-1](hidden, site)


class StyleEncoder(nn.Module):
    """E(x): the style of an image, read as one of its site."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.branches = SiteLinear(self.trunk.features, config.style, config.sites)
        initialise(self)

    def forward(self, images: Images, site: Sites) -> Styles:
        return self.branches(self.trunk(images), site)


class Discriminator(nn.Module):
    """D(x): the logit that an image is a real one of the site."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.branches = SiteLinear(self.trunk.features, 1, config.sites)
        initialise(self)

    def forward(self, images: Images, site: Sites) -> Float[Tensor, " batch"]:
        return self.branches(self.trunk(images), site)[:, 0]


class Trunk(nn.Module):
    """Image to features: halved down to about 4 x 4, without normalisation, then one convolution over all of it.

    That convolution is as large as what is left, so that a size other than 4 x 4 cannot shift the branches.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        levels = config.encoder_levels
        width, cap = config.discriminator_width or config.width, config.discriminator_cap or config.cap
        widths = _widths(width, cap, levels)
        self.features = widths[-1]
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*[EncoderBlock(a, b, halve=True) for a, b in pairwise(widths)])
        left = tuple(n >> levels for n in config.size)
        self.last = nn.Conv2d(self.features, self.features, left)

    def forward(self, images: Images) -> Float[Tensor, "batch feature"]:
        hidden = self.last(relu(self.blocks(self.stem(_scaled(images)))))
        return relu(rearrange(hidden, "batch feature 1 1 -> batch feature"))


def count_parameters(network: nn.Module) -> int:
    """How many numbers training moves."""
    return sum(p.numel() for p in network.parameters())


def with_position(images: Images) -> Images:
    """Two more channels: row and column, from the middle of the image in units of 64 pixels.

    A receive coil's sensitivity changes over the head; a convolution alone does not know where it is.
    """
    rows, columns = (
        (torch.arange(n, device=images.device, dtype=images.dtype) - (n - 1) / 2) / 64 for n in images.shape[-2:]
    )
    place = torch.stack([rows[:, None].expand(images.shape[-2:]), columns.expand(images.shape[-2:])])
    return torch.cat([images, place.expand(len(images), -1, -1, -1)], dim=1)


def _scaled(images: Tensor) -> Tensor:
    return SCALE * images + SHIFT


def _widths(first: int, cap: int, levels: int) -> list[int]:
    return [min(cap, first * 2**level) for level in range(levels + 1)]
