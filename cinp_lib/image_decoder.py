"""The visual decoder of the study: the reconstruction head of Tang et al. (2022), from the deepest map to a volume.

Five times: convolve 3 x 3 x 3, normalise every channel of every volume, rectify, double the grid; then a 1 x 1 x 1
convolution. That last one is done before the last doubling: both are linear and the weights of interpolation add to 1,
so the volume is the same and the largest map of all, 48 channels at full size, is never made.
"""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cinp_lib.image_config import PATCH, ImageEncoderConfig

SLOPE = 0.01  # of LeakyReLU


class ImageDecoder(nn.Module):
    """768 - 384 - 192 - 96 - 48 - 48 channels, while the grid grows from 3 to 96."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        widths = [*config.widths[::-1], config.features]
        self.grids = config.grids[-2::-1]
        # No bias: the norms behind would take it out again.
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.head = nn.Conv3d(config.features, 1, 1)

    def forward(self, grid: Float[Tensor, "batch feature i j k"]) -> Float[Tensor, "batch 1 x y z"]:
        for convolution, size in zip(self.convolutions[:-1], self.grids, strict=False):
            grid = doubled(_rectified(convolution(grid)), size)
        return doubled(self.head(_rectified(self.convolutions[-1](grid))), self.grids[-1])


def doubled(grid: Float[Tensor, "batch feature i j k"], size: tuple[int, int, int]) -> Tensor:
    """Trilinear, to twice the size; where the encoder had padded an odd grid, the end is cut again."""
    grid = functional.interpolate(grid, scale_factor=PATCH, mode="trilinear", align_corners=False)
    x, y, z = size
    return grid[:, :, :x, :y, :z]


def _rectified(grid: Tensor) -> Tensor:
    """Normalised, unless there is a single place, where the norm would leave nothing."""
    if grid[0, 0].numel() > 1:
        grid = functional.instance_norm(grid)
    return functional.leaky_relu(grid, SLOPE)
