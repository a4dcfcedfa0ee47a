"""Voxels as their distance from the mean of training volumes, in deviations of training volumes.

What all heads have in common is most of what a volume holds, and nothing of what tells people apart. A large
pre-trained encoder can look past it; a small one that learns from some hundred people memorises them first. Only for
volumes that lie in one space.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_DEVIATION = 0.02  # of volumes in [0, 1]: steadier voxels would show noise alone
LEAST_SHARE = 0.5  # of training volumes whose brain has to hold a voxel; others tell of the mask


class VoxelStandardiser(nn.Module):
    """To standard volumes and back; the statistics are part of the model's weights."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.register_buffer("common", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def fit(self, batches: Iterable[Float[np.ndarray, "batch x y z"]]) -> "VoxelStandardiser":
        """Statistics of the training volumes, over batches of them."""
        number, total, squares, inside = 0, 0.0, 0.0, 0.0
        for volumes in batches:
            wide = volumes.astype(np.float64)
            number, total, squares = number + len(wide), total + wide.sum(0), squares + np.square(wide).sum(0)
            inside = inside + (volumes != 0).sum(0)
        if number < 2:
            raise ValueError(f"voxel standardiser: expected at least two training volumes, got {number}")
        if not np.isfinite(total).all():
            raise ValueError("voxel standardiser: training volumes hold NaN or infinity; prepare the pairs again")
        mean = total / number
        deviation = np.sqrt(np.maximum(squares / number - np.square(mean), 0.0))
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(np.maximum(deviation, LEAST_DEVIATION)))
        self.common.copy_(torch.from_numpy(inside >= LEAST_SHARE * number))
        return self

    def forward(self, volumes: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch 1 x y z"]:
        self._check_fitted()
        return torch.where(self.common, (volumes - self.mean) / self.deviation, torch.zeros_like(volumes))

    def restore(self, standard: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch 1 x y z"]:
        """Volumes in their own units again, 0 outside what brains have in common."""
        self._check_fitted()
        return torch.where(self.common, self.mean + self.deviation * standard, torch.zeros_like(standard))

    def _check_fitted(self) -> None:
        if not self.common.any():
            raise ValueError(
                "voxel standardiser: expected statistics of training volumes, got none; `pretrain.fit` and the "
                "folder of a pre-trained model bring them, or call fit on training volumes first"
            )
