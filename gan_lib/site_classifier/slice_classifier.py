"""The attacker: a ResNet-50 that sees a slice and, as a second channel of our own, its fine detail.

Noise, point spread and stripes are a hundredth of what anatomy is, and a stem that begins at random passes on anatomy.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gan_lib.site_classifier.resnet import resnet50

Slices = Float[Tensor, "batch 1 height width"]

# Detail is what a slice has beyond the mean of the brain in so many pixels squared, times so much that it varies as
# slices do. Where less of the window is brain, the brain's edge would be all that is seen.
WINDOW, GAIN, LEAST_BRAIN = 5, 10.0, 0.8


class SliceClassifier(nn.Module):
    """One logit per class for slices in the study's units, with a background of 0."""

    def __init__(self, classes: int, seed: int = 0, detail: bool = True) -> None:
        super().__init__()
        self.detail = detail
        self.resnet = resnet50(classes, seed, channels=2 if detail else 1)

    def forward(self, slices: Slices) -> Float[Tensor, "batch label"]:
        """Of every slice, and its detail if this network sees that."""
        seen = torch.cat([slices, fine_detail(slices)], dim=1) if self.detail else slices
        return self.resnet(seen)


def fine_detail(slices: Slices) -> Slices:
    """Brain voxels less the mean of the brain around them; 0 in the background, at its edge, and at the frame."""
    brain = (slices != 0).to(slices.dtype)
    total, share = (functional.avg_pool2d(one, WINDOW, stride=1, padding=WINDOW // 2) for one in (slices, brain))
    detail = GAIN * (slices - total / share.clamp_min(LEAST_BRAIN))
    return torch.where((brain > 0) & (share >= LEAST_BRAIN), detail, torch.zeros_like(detail))
