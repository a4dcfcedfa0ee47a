"""The Swin transformer of MONAI 1.6.1 (Liu et al. 2021, Tang et al. 2022), its weights under the same names.

The functions are MONAI's; the work is not. Tokens stay in one layout from the first step to the last, window masks are
made once for a grid, attention runs in the cache (`window_attention`), queries, keys and values are not computed for
padding (they are the bias there), and only the deepest map is given.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cinp_lib.image_config import PATCH, STAGES, ImageEncoderConfig
from cinp_lib.window_attention import window_attention
from cinp_lib.windows import Size, WindowLayout, relative_positions, window_layout

MLP_RATIO = 4
BIAS_STD = 0.02  # of a new position bias
# The octants of a 2 x 2 x 2 block, one after another. Up to MONAI 1.4, and so in the published weights, two come twice
# and two never.
OCTANTS = {
    "legacy": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    "v2": ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)),
}
Tokens = Float[Tensor, "batch token feature"]


class SwinTransformer(nn.Module):
    """Volumes to their deepest map, each of its tokens at mean 0 and variance 1 over the features."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.features)
        self.pos_drop = nn.Dropout(config.dropout)
        rates = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").split(config.depths)
        for stage in range(STAGES):  # `layers1.0`, …: MONAI's names
            layer = Stage(config, stage, rates[stage].tolist())
            self.add_module(f"layers{stage + 1}", nn.ModuleList([layer]))

    def forward(self, volumes: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch feature i j k"]:
        tokens, grid = self.patch_embed(volumes)
        tokens = self.pos_drop(tokens)
        for stage in range(STAGES):
            tokens, grid = getattr(self, f"layers{stage + 1}")[0](tokens, grid)
        tokens = functional.layer_norm(tokens, tokens.shape[-1:])
        x, y, z = grid
        return rearrange(tokens, "batch (x y z) feature -> batch feature x y z", x=x, y=y, z=z)


class PatchEmbedding(nn.Module):
    """Every 2 x 2 x 2 block of voxels to one token."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, features, PATCH, stride=PATCH)

    def forward(self, volumes: Float[Tensor, "batch 1 x y z"]) -> tuple[Tokens, Size]:
        volumes = _padded_to_even(volumes, volumes.shape[2:])
        grid = tuple(n // PATCH for n in volumes.shape[2:])
        blocks = rearrange(volumes, "batch 1 (x i) (y j) (z k) -> batch (x y z) (i j k)", i=PATCH, j=PATCH, k=PATCH)
        return functional.linear(blocks, self.proj.weight.flatten(1), self.proj.bias), grid


class Stage(nn.Module):
    """Blocks, every second one with shifted windows; then the grid is halved and the features are doubled."""

    def __init__(self, config: ImageEncoderConfig, stage: int, drop_path: list[float]) -> None:
        super().__init__()
        self.window, features = config.window, config.widths[stage]
        self.blocks = nn.ModuleList(Block(config, stage, rate) for rate in drop_path)
        self.downsample = PatchMerging(features, config.merging)

    def forward(self, tokens: Tokens, grid: Size) -> tuple[Tokens, Size]:
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, window_layout(grid, self.window, number % 2 == 1, tokens.device))
        return self.downsample(tokens, grid)


class Block(nn.Module):
    """Attention in windows, then two fully connected layers, each added to what came in."""

    def __init__(self, config: ImageEncoderConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        features = config.widths[stage]
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn = WindowAttention(features, config.heads[stage], config.window, config.dropout)
        self.mlp = FeedForward(features, config.dropout)
        self.drop_path, self.checkpoint = drop_path, config.checkpoint

    def forward(self, tokens: Tokens, layout: WindowLayout) -> Tokens:
        tokens = tokens + self._dropped(self._run(self._attend, tokens, layout))
        return tokens + self._dropped(self._run(self._feed, tokens))

    def _attend(self, tokens: Tokens, layout: WindowLayout) -> Tokens:
        return self.attn(self.norm1(tokens), layout)

    def _feed(self, tokens: Tokens) -> Tokens:
        return self.mlp(self.norm2(tokens))

    def _run(self, part, *inputs) -> Tokens:
        if self.checkpoint and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _dropped(self, tokens: Tokens) -> Tokens:
        """Stochastic depth: the part is left out of some samples (Huang et al. 2016)."""
        if not self.drop_path or not self.training:
            return tokens
        keep = 1 - self.drop_path
        return tokens * tokens.new_empty(len(tokens), 1, 1).bernoulli_(keep).div_(keep)


class WindowAttention(nn.Module):
    """Attention of every token to those of its window, with a bias by their distance."""

    def __init__(self, features: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 3, heads))
        self.register_buffer("relative_position_index", relative_positions(window))
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.proj_drop = nn.Dropout(dropout)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=BIAS_STD)

    def forward(self, tokens: Tokens, layout: WindowLayout) -> Tokens:
        mixed = window_attention(self.qkv(tokens), self.qkv.bias, self._bias(layout.places), layout)
        return self.proj_drop(self.proj(mixed))

    def _bias(self, places: int) -> Float[Tensor, "head place place"]:
        # Of a window smaller than usual MONAI takes the first places of the usual one's numbering, and so do we: the
        # distances are not the true ones then, but the published weights were trained with them.
        index = self.relative_position_index[:places, :places]
        chosen = self.relative_position_bias_table.index_select(0, index.flatten())
        return rearrange(chosen, "(query key) head -> head query key", query=places)


class FeedForward(nn.Module):
    """Two fully connected layers with GELU between."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(features, MLP_RATIO * features)
        self.linear2 = nn.Linear(MLP_RATIO * features, features)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        return self.drop(self.linear2(self.drop(functional.gelu(self.linear1(tokens)))))


class PatchMerging(nn.Module):
    """Every 2 x 2 x 2 block of tokens to one with twice the features."""

    def __init__(self, features: int, merging: str) -> None:
        super().__init__()
        self.octants = OCTANTS[merging]
        self.reduction = nn.Linear(8 * features, 2 * features, bias=False)
        self.norm = nn.LayerNorm(8 * features)

    def forward(self, tokens: Tokens, grid: Size) -> tuple[Tokens, Size]:
        x, y, z = grid
        tokens = rearrange(tokens, "batch (x y z) feature -> batch feature x y z", x=x, y=y, z=z)
        tokens = _padded_to_even(tokens, grid)
        octants = [tokens[:, :, i::2, j::2, k::2] for i, j, k in self.octants]
        octants = [rearrange(octant, "batch feature x y z -> batch (x y z) feature") for octant in octants]
        return self.reduction(self.norm(torch.cat(octants, -1))), tuple(-(-n // 2) for n in grid)


def _padded_to_even(volumes: Float[Tensor, "batch feature x y z"], size: Size) -> Tensor:
    """Zeros at the end of odd axes."""
    ends = [extra for n in size[::-1] for extra in (0, n % PATCH)]
    return functional.pad(volumes, ends) if any(ends) else volumes
