"""The image encoder trained on with labels, instead of frozen: an option, since it needs a training for every fold."""

import copy
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cinp_lib.augmentation import augmented_volumes
from cinp_lib.baselines.classifier_training import ClassifierConfig, trained_classifier
from cinp_lib.folds import Method
from cinp_lib.model import Cinp
from cinp_lib.presets import preset
from cinp_lib.tasks import Task

AUGMENTATION = preset("demo").training.augmentation  # no flips: the effects of a disorder need not be symmetric


class ImageClassifier(nn.Module):
    """A copy of the pre-trained encoder, of its features' statistics and of components, and a new linear layer."""

    def __init__(self, model: Cinp, classes: int) -> None:
        super().__init__()
        self.voxels = nn.Identity() if model.voxels is None else copy.deepcopy(model.voxels)
        self.encoder = copy.deepcopy(model.image_encoder)
        self.standardise = copy.deepcopy(model.image_projection.standardise)
        self.components = copy.deepcopy(model.image_components)
        self.head = nn.Linear(model.config.image.embedding + model.config.components, classes)

    def forward(self, volumes: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch class"]:
        seen = self.voxels(volumes)
        features = self.standardise(self.encoder(seen).pooled)
        if self.components is not None:
            features = torch.cat([features, self.components(seen.flatten(1))], dim=1)
        return self.head(features)


def fine_tuned(model: Cinp, volumes: Float[Tensor, "subject x y z"], task: Task, config: ClassifierConfig) -> Method:
    """Row k of the prepared volumes is person k of the task; the model itself stays as it is.

    Its rate should be far below that of training from scratch: the encoder shall be moved, not made anew.
    """
    inputs, change = torch.as_tensor(volumes).float()[:, None], partial(augmented_volumes, config=AUGMENTATION)
    return trained_classifier(lambda: ImageClassifier(model, len(task.classes)), inputs, task, config, change)
