"""A small 3D convolutional network on T1s and labels, from scratch: MONAI's `Classifier`."""

from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float32
from torch import nn

from cinp_lib.augmentation import AugmentationConfig, augmented_volumes
from cinp_lib.baselines.classifier_training import ClassifierConfig, trained_classifier
from cinp_lib.folds import Method
from cinp_lib.tasks import Task


@dataclass(frozen=True)
class CnnConfig:
    """Every level halves the volume."""

    channels: tuple[int, ...] = (8, 16, 32)
    residual_units: int = 0  # 0: one plain convolution for each level
    dropout: float = 0.2
    training: ClassifierConfig = field(default_factory=ClassifierConfig)
    # No flips: the effects of a disorder need not be symmetric.
    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig(flip=0.0))


def cnn(volumes: Float32[torch.Tensor, "subject x y z"], task: Task, config: CnnConfig) -> Method:
    """Row k of the volumes (background 0, brain up to 1) is person k of the task."""
    inputs, classes = torch.as_tensor(volumes).float()[:, None], len(task.classes)
    change = partial(augmented_volumes, config=config.augmentation)
    size = tuple(inputs.shape[1:])
    return trained_classifier(lambda: classifier(size, classes, config), inputs, task, config.training, change)


def classifier(size: tuple[int, ...], classes: int, config: CnnConfig) -> nn.Module:
    """For volumes of (channel, x, y, z)."""
    from monai.networks.nets import Classifier

    return Classifier(
        in_shape=size,
        classes=classes,
        channels=config.channels,
        strides=(2,) * len(config.channels),
        num_res_units=config.residual_units,
        dropout=config.dropout,
    )
