"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017) of the site that a slice is from."""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from gan_lib.site_classifier.examples import SiteSlices

# Its maps are 6 x 5 pixels for slices of 96 x 80; those of layer4 would be 3 x 3.
LAYER = "resnet.layer3"


def attention(network: nn.Module, slices: SiteSlices, layer: str = LAYER) -> Float[np.ndarray, "slice height width"]:
    """What speaks for each slice's own class, in the network's units: comparable between slices of one class."""
    from monai.visualize import GradCAM

    camera = GradCAM(nn_module=network.eval(), target_layers=layer, postprocessing=_as_it_is)
    maps = []
    for image, label in zip(slices.images, slices.labels, strict=True):
        shown = torch.from_numpy(image.astype(np.float32))[None, None]
        maps.append(camera(shown, class_idx=int(label))[0, 0].detach().numpy())
    return np.stack(maps)


def middle_slices(slices: SiteSlices) -> SiteSlices:
    """The middle test slice of the first test subject of each class."""
    chosen = []
    for label in range(len(slices.names)):
        own = np.flatnonzero((slices.labels == label) & (slices.roles == "test"))
        first = own[slices.subjects[own] == slices.subjects[own[0]]]
        chosen.append(first[len(first) // 2])
    return slices.where(np.array(chosen))


def _as_it_is(maps: torch.Tensor) -> torch.Tensor:
    """MONAI's own last step turns the largest value into 0."""
    return maps
