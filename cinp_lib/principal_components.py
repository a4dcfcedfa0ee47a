"""Principal components of training rows, at equal variance: what a small encoder would need many people to find.

An addition of ours, which the study does not have.
The scanner, the size of the head and the noise of a few voxels move most of what a volume or a network holds; what
tells people apart is spread over components of far smaller variance. Of equal variance, a linear layer finds them.
"""

from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor, nn

LEAST_SHARE = 1e-6  # of the variance: components below are rounding


class PrincipalComponents(nn.Module):
    """Rows to at most `number` components; the statistics are part of the model's weights.

    Where training rows differ in fewer directions, the components that are missing stay 0. A row holds NaN where
    nothing is known; the mean of training rows stands there.
    """

    def __init__(self, features: int, number: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("directions", torch.zeros(features, number))

    @torch.no_grad()
    def fit(self, rows: Float[np.ndarray, "row feature"]) -> Self:
        """The directions of most variance of training rows, always the same for the same rows."""
        if len(rows) < 2 or np.isinf(rows).any():
            raise ValueError(f"principal components: expected at least two rows, and nothing infinite, got {len(rows)}")
        unknown = np.isnan(rows)
        mean = np.where(unknown, 0, rows).sum(axis=0) / np.maximum((~unknown).sum(axis=0), 1)
        pca = PCA(min(self.directions.shape[1], *rows.shape), random_state=0).fit(np.where(unknown, mean, rows))
        real = pca.explained_variance_ratio_ > LEAST_SHARE
        if not real.any():
            raise ValueError(f"principal components: expected rows that differ, got {len(rows)} that are alike")
        directions = pca.components_[real].T / np.sqrt(pca.explained_variance_[real])
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.directions.zero_()[:, : directions.shape[1]] = torch.from_numpy(directions)
        return self

    @property
    def found(self) -> int:
        """How many components there are."""
        return int(self.directions.any(dim=0).sum())

    def forward(self, rows: Float[Tensor, "row feature"]) -> Float[Tensor, "row component"]:
        if not self.directions[:, :1].any():
            raise ValueError(
                "principal components: expected those of training rows, got none; `pretrain.fit` and the folder of a "
                "pre-trained model bring them, or call `starting_point.fit_inputs` on training pairs first"
            )
        with torch.autocast(rows.device.type, enabled=False):
            apart = rows.to(self.mean.dtype) - self.mean
            return torch.where(apart.isnan(), 0, apart) @ self.directions
