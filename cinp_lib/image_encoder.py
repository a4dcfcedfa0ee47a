"""The visual encoder of the study: a volume to the features of its deepest map and to their mean.

Whoever trains it with masked images hands both over in one batch. Projection and normalisation of embeddings belong to
`model`. Config, decoder and published weights can be had from here too.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.image_decoder import ImageDecoder
from cinp_lib.swin import SwinTransformer
from cinp_lib.swin_weights import SwinWeightsReport, load_swin_ssl_weights

__all__ = [
    "ImageDecoder",
    "ImageEncoder",
    "ImageEncoderConfig",
    "ImageFeatures",
    "SwinWeightsReport",
    "load_swin_ssl_weights",
]


@dataclass(frozen=True)
class ImageFeatures:
    """What the encoder sees in volumes."""

    pooled: Float[Tensor, "batch feature"]  # the mean over the map
    grid: Float[Tensor, "batch feature x y z"]  # 768 features at 3 x 3 x 3 places, of a volume of 96


class ImageEncoder(nn.Module):
    """The Swin transformer's deepest map, layer-normalised as in the work the weights come from, and its mean."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config, self.swin = config, SwinTransformer(config)

    def forward(self, volumes: Float[Tensor, "batch 1 x y z"]) -> ImageFeatures:
        if volumes.ndim != 5 or tuple(volumes.shape[1:]) != (1, *self.config.size):
            raise ValueError(
                f"image encoder: expected volumes of (batch, 1, {', '.join(map(str, self.config.size))}), got "
                f"{tuple(volumes.shape)}; resample or pad them to ImageEncoderConfig.size"
            )
        grid = self.swin(volumes)
        return ImageFeatures(grid.mean((2, 3, 4)), grid)
