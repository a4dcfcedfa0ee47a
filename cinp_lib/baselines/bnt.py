"""The Brain Network Transformer trained from scratch on networks and labels: the study's strongest FCN-based method."""

from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cinp_lib.augmentation import AugmentationConfig, augmented_networks
from cinp_lib.baselines.classifier_training import ClassifierConfig, trained_classifier
from cinp_lib.folds import Method
from cinp_lib.network_encoder import NetworkEncoder, NetworkEncoderConfig
from cinp_lib.tasks import Task
from study_lib.shapes import Networks


@dataclass(frozen=True)
class BntConfig:
    """The encoder's defaults are its authors'; how edges are disturbed in training is our choice."""

    encoder: NetworkEncoderConfig = field(default_factory=NetworkEncoderConfig)
    training: ClassifierConfig = field(default_factory=ClassifierConfig)
    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig(edge_noise=0.1))


class NetworkClassifier(nn.Module):
    """The network encoder of pre-training, and one linear layer on what it says."""

    def __init__(self, config: NetworkEncoderConfig, classes: int) -> None:
        super().__init__()
        self.encoder, self.head = NetworkEncoder(config), nn.Linear(config.embedding, classes)

    def forward(self, networks: Float[Tensor, "batch region region"]) -> Float[Tensor, "batch class"]:
        return self.head(nn.functional.leaky_relu(self.encoder(networks)))


def bnt(networks: Networks, task: Task, config: BntConfig) -> Method:
    """Row k of the networks is person k of the task."""
    inputs, classes = torch.from_numpy(networks).float(), len(task.classes)
    change = partial(augmented_networks, config=config.augmentation)
    return trained_classifier(lambda: NetworkClassifier(config.encoder, classes), inputs, task, config.training, change)
