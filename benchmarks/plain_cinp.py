"""CINP's image branch put together from MONAI's parts, plainly: what ours is held against.

The encoder runs once for the images and once for the masked images; attention, window masks and patch merging are those
of MONAI's `SwinTransformer` as it stands; the decoder is the reconstruction head of Tang et al. in its published order:
convolve, normalise, rectify, upsample, five times, then a 1 x 1 x 1 convolution at full size.
"""

from itertools import pairwise

import torch
from monai.networks.nets.swin_unetr import PatchMerging, SwinTransformer
from torch import Tensor, nn
from torch.nn import functional

from cinp_lib.image_config import PATCH, ImageEncoderConfig


class PlainImageBranch(nn.Module):
    """Images and their masked copies to pooled features of both and the reconstruction."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = plain_encoder(config), PlainDecoder(config)

    @torch.no_grad()
    def take(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """The weights of our encoder and decoder. Biases that a norm takes out again ours does not have; they are 0."""
        self.encoder.load_state_dict(encoder.swin.state_dict())
        zeros = {f"convolutions.{k}.bias": c.bias * 0 for k, c in enumerate(self.decoder.convolutions)}
        self.decoder.load_state_dict(decoder.state_dict() | zeros)

    def forward(self, images: Tensor, masked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grid, masked_grid = self.encoder(images)[-1], self.encoder(masked)[-1]
        return grid.mean((2, 3, 4)), masked_grid.mean((2, 3, 4)), self.decoder(masked_grid)


class PlainDecoder(nn.Module):
    """The reconstruction head of Tang et al."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        widths = [*config.widths[::-1], config.features]
        self.sizes = config.grids[-2::-1]
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.InstanceNorm3d(b) for b in widths[1:])
        self.upsample = nn.Upsample(scale_factor=PATCH, mode="trilinear", align_corners=False)
        self.head = nn.Conv3d(config.features, 1, 1)

    def forward(self, grid: Tensor) -> Tensor:
        for convolution, norm, (x, y, z) in zip(self.convolutions, self.norms, self.sizes, strict=True):
            grid = convolution(grid)
            grid = norm(grid) if grid[0, 0].numel() > 1 else grid
            # The encoder pads odd grids at their end; what stems from there is cut.
            grid = self.upsample(functional.leaky_relu(grid))[:, :, :x, :y, :z]
        return self.head(grid)


class PlainLegacyMerging(PatchMerging):
    """Patch merging up to MONAI 1.4: two octants are taken twice, two are left out."""

    def forward(self, x: Tensor) -> Tensor:
        _, d, h, w, _ = x.shape
        x = functional.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
        x0 = x[:, 0::2, 0::2, 0::2, :]
        x1 = x[:, 1::2, 0::2, 0::2, :]
        x2 = x[:, 0::2, 1::2, 0::2, :]
        x3 = x[:, 0::2, 0::2, 1::2, :]
        x4 = x[:, 1::2, 0::2, 1::2, :]
        x5 = x[:, 0::2, 1::2, 0::2, :]
        x6 = x[:, 0::2, 0::2, 1::2, :]
        x7 = x[:, 1::2, 1::2, 1::2, :]
        return self.reduction(self.norm(torch.cat([x0, x1, x2, x3, x4, x5, x6, x7], -1)))


def plain_encoder(config: ImageEncoderConfig) -> SwinTransformer:
    """MONAI's own encoder of these sizes; `load_state_dict` takes the weights of ours."""
    return SwinTransformer(
        in_chans=1,
        embed_dim=config.features,
        window_size=(config.window,) * 3,
        patch_size=(PATCH,) * 3,
        depths=config.depths,
        num_heads=config.heads,
        drop_rate=config.dropout,
        drop_path_rate=config.drop_path,
        use_checkpoint=config.checkpoint,
        downsample=PlainLegacyMerging if config.merging == "legacy" else "mergingv2",
    )
