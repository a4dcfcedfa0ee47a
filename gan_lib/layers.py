"""What the networks are built of: residual blocks, normalisation, layers with one branch per site.

Linear steps are put in the order that costs least; the functions computed are those of the plain order (a test
holds both equal): a 3 x 3 convolution before average pooling is one 4 x 4 convolution of stride 2, one after nearest
upsampling is one transposed 4 x 4 convolution, and 1 x 1 shortcuts run on the coarser side of a change of scale.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2  # of every LeakyReLU
HALF = math.sqrt(0.5)  # residual sums keep unit variance

Styles = Float[Tensor, "batch style"]
Sites = Int[Tensor, " batch"]


class EncoderBlock(nn.Module):
    """Pre-activation residual block, normalised or not, that halves the image or not."""

    def __init__(self, inputs: int, outputs: int, normalised: bool = False, halve: bool = False) -> None:
        super().__init__()
        self.halve = halve
        self.first, self.second = nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1, self.norm2 = (InstanceNorm(inputs) if normalised else nn.Identity() for _ in range(2))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        hidden = relu(self.norm1(images))
        hidden = conv_then_halve(hidden, self.first.weight, self.first.bias) if self.halve else self.first(hidden)
        hidden = self.second(relu(self.norm2(hidden)))
        skipped = self.shortcut(functional.avg_pool2d(images, 2) if self.halve else images)
        return (hidden + skipped) * HALF


class StyledBlock(nn.Module):
    """Residual block whose instance norms are scaled and shifted by the style (AdaIN); doubles the image or not."""

    def __init__(self, inputs: int, outputs: int, style: int, double: bool = False) -> None:
        super().__init__()
        self.double = double
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1, self.norm2 = StyledNorm(style, inputs), StyledNorm(style, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, images: Tensor, styles: Styles) -> Tensor:
        hidden = relu(self.norm1(images, styles))
        hidden = double_then_conv(hidden, self.first.weight, self.first.bias) if self.double else self.first(hidden)
        hidden = self.second(relu(self.norm2(hidden, styles)))
        skipped = self.shortcut(images)
        skipped = functional.interpolate(skipped, scale_factor=2, mode="nearest") if self.double else skipped
        return (hidden + skipped) * HALF


class InstanceNorm(nn.Module):
    """Every channel of every image to mean 0 and variance 1, then a learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        return normalise(images, self.weight[None], self.bias[None])


class StyledNorm(nn.Module):
    """AdaIN: the scale 1 + gamma and the shift beta are one linear function of the style."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style, 2 * channels)

    def forward(self, images: Tensor, styles: Styles) -> Tensor:
        gamma, beta = self.affine(styles).chunk(2, dim=1)
        return normalise(images, 1 + gamma, beta)


class SiteLinear(nn.Module):
    """One linear layer per site; only that of each image's own site is computed."""

    def __init__(self, inputs: int, outputs: int, sites: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(sites, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(sites, outputs))

    def forward(self, features: Float[Tensor, "batch inputs"], site: Sites) -> Float[Tensor, "batch outputs"]:
        # index_select, not weight[site]: the gradient of the latter adds in no fixed order when threads are many
        weight, bias = self.weight.index_select(0, site), self.bias.index_select(0, site)
        return torch.baddbmm(bias[:, :, None], weight, features[:, :, None])[:, :, 0]


def normalise(images: Tensor, scale: Tensor, shift: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Instance normalisation with a scale and a shift per image and channel (or per channel).

    Seen as one image of batch x channel channels it is batch normalisation, whose kernels read the image least often.
    """
    batch, channels = images.shape[:2]
    flat = rearrange(images, "batch channel height width -> 1 (batch channel) height width")
    least = torch.promote_types(scale.dtype, torch.float32)  # 16 bits are too few for them
    scale, shift = (value.to(least).expand(batch, channels).reshape(-1) for value in (scale, shift))
    flat = functional.batch_norm(flat, None, None, scale, shift, training=True, eps=epsilon)
    return rearrange(flat, "1 (batch channel) height width -> batch channel height width", batch=batch)


def conv_then_halve(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A padded 3 x 3 convolution and 2 x 2 average pooling in one: the mean of four shifted kernels."""
    kernel = functional.pad(weight, (0, 1, 0, 1)) + functional.pad(weight, (1, 0, 0, 1))
    kernel = kernel + functional.pad(weight, (0, 1, 1, 0)) + functional.pad(weight, (1, 0, 1, 0))
    return functional.conv2d(images, kernel / 4, bias, stride=2, padding=1)


def double_then_conv(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Nearest upsampling by 2 and a padded 3 x 3 convolution in one: taps that meet the same pixel are summed."""
    mirrored = weight.flip(2, 3).transpose(0, 1)
    kernel = functional.pad(mirrored, (0, 1, 0, 1)) + functional.pad(mirrored, (1, 0, 0, 1))
    kernel = kernel + functional.pad(mirrored, (0, 1, 1, 0)) + functional.pad(mirrored, (1, 0, 1, 0))
    return functional.conv_transpose2d(images, kernel, bias, stride=2, padding=1)


def initialise(network: nn.Module) -> None:
    """He-normal weights by fan-in, zero biases; norms keep scale 1 and shift 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, SiteLinear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight.shape[-1]))


def relu(hidden: Tensor) -> Tensor:
    """Leaky, as everywhere here."""
    return functional.leaky_relu(hidden, SLOPE)
