"""Masked images: which voxels are hidden is drawn outside of the model, so that it can be drawn again.

The paper hides 30 % of the voxels at random and says nothing of the shape. Cubic blocks are our choice: single voxels
could be read off their neighbours. A side of 16 at 96 voxels is that of MONAI's masked-autoencoder recipe.
"""

import math

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from study_lib.shapes import Mask

SHARE, BLOCK = 0.3, 16


def draw_mask(
    size: tuple[int, int, int], share: float = SHARE, block: int = BLOCK, rng: np.random.Generator | None = None
) -> Mask:
    """True = hidden. As many blocks as come nearest to the share of voxels; those at the end may be cut."""
    if rng is None:
        raise ValueError("draw_mask: expected a numpy Generator as rng; masks are drawn again from its seed")
    if not 0 <= share < 1:
        raise ValueError(f"draw_mask: expected a share of voxels from 0 to below 1, got {share}")
    if not 1 <= block <= min(size):
        raise ValueError(f"draw_mask: expected a block of 1 to {min(size)} voxels a side, got {block}")
    number = _block_numbers(size, block)
    order = rng.permutation(int(number.max()) + 1)
    hidden_voxels = np.concatenate([[0], np.bincount(number.ravel())[order].cumsum()])
    count = int(np.abs(hidden_voxels - share * number.size).argmin())
    hidden = np.zeros(len(order), dtype=bool)
    hidden[order[:count]] = True
    return hidden[number]


def apply_mask(
    volumes: Float[Tensor, "batch 1 x y z"],
    masks: Bool[Tensor, "batch x y z"] | Bool[Tensor, "batch 1 x y z"],
    fill: float | Tensor = 0.0,
) -> Float[Tensor, "batch 1 x y z"]:
    """I*: hidden voxels are `fill`, a number or noise of the volumes' shape; the others as they were."""
    if masks.ndim == 4:
        masks = rearrange(masks, "batch x y z -> batch 1 x y z")
    if masks.dtype != torch.bool or masks.shape != volumes.shape:
        raise ValueError(
            f"apply_mask: expected boolean masks, one for every volume of {tuple(volumes.shape)}, got {masks.dtype} of "
            f"{tuple(masks.shape)}"
        )
    return torch.where(masks, torch.as_tensor(fill, dtype=volumes.dtype, device=volumes.device), volumes)


def _block_numbers(size: tuple[int, int, int], block: int) -> np.ndarray:
    """For every voxel the number of its block."""
    x, y, z = (np.arange(n) // block for n in size)
    blocks = [math.ceil(n / block) for n in size]
    return (x[:, None, None] * blocks[1] + y[:, None]) * blocks[2] + z
