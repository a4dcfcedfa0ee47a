"""What pre-training moves and a checkpoint holds: the model, its optimiser, and how far training has come."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from cinp_lib.augmentation import AugmentationConfig
from cinp_lib.image_encoder import load_swin_ssl_weights
from cinp_lib.model import Cinp, ModelConfig
from cinp_lib.objective import ObjectiveConfig
from study_lib.training.progress import Progress

Criterion = Literal["loss", "retrieval"]


@dataclass(frozen=True)
class PretrainingConfig:
    """The defaults are the study's where it tells them: rates, decay, batch, share of masked voxels."""

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    component_steps: int = 0  # of the model's components alone, before the first iteration; not in the study
    iterations: int = 1600  # about 100 epochs of 4,619 pairs; the study's number is not known
    batch: int = 256
    chunk: int | None = None  # pairs in memory at a time on each rank; None = all
    learning_rate: float = 1e-5
    least_rate: float = 1e-6  # that the cosine ends at
    warm_up: int = 0  # iterations of a linear rise; not in the study
    weight_decay: float = 1e-5
    clip: float = 1.0  # largest norm of all gradients together; our choice
    mask_share: float = 0.3
    mask_block: int = 16  # voxels a side of what is masked together; the study's is not known
    # The masked image of one in so many pairs: the same loss in expectation, for less work. The study masks all (1).
    reconstruct_every: int = 1
    within_site: bool = False  # every batch of one site
    best_by: Criterion = "loss"  # on validation subjects: contrastive loss, or mean reciprocal rank of the own pair
    image_weights: str = ""  # file of the published self-supervised Swin weights that the image encoder begins with
    precision: str = "float32"
    seed: int = 0
    record_every: int = 10
    save_every: int = 50
    validate_every: int = 50

    def __post_init__(self) -> None:
        for name in ("iterations", "record_every", "save_every", "validate_every", "mask_block", "reconstruct_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"PretrainingConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.batch < 2 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(
                "PretrainingConfig: expected a batch of at least 2 pairs, in chunks of at least 1, "
                f"got {self.batch}, {self.chunk}"
            )
        alignable = self.model.components and self.objective.weights.contrastive
        if self.component_steps < 0 or (self.component_steps and not alignable):
            raise ValueError(
                "PretrainingConfig.component_steps: expected 0, or some of a model with components, by a contrastive "
                f"loss; got {self.component_steps} with ModelConfig.components={self.model.components} and "
                f"{self.objective.weights}"
            )
        if self.validate_every % self.record_every:
            raise ValueError(
                f"PretrainingConfig.validate_every: expected a multiple of record_every ({self.record_every}), "
                f"got {self.validate_every}"
            )
        if not 0 < self.least_rate <= self.learning_rate or not 0 < self.mask_share < 1:
            raise ValueError(
                "PretrainingConfig: expected 0 < least_rate <= learning_rate and 0 < mask_share < 1, "
                f"got {self.least_rate}, {self.learning_rate}, {self.mask_share}"
            )
        if self.best_by not in get_args(Criterion):
            raise ValueError(
                f"PretrainingConfig.best_by: expected {' or '.join(get_args(Criterion))}, got {self.best_by!r}"
            )

    @property
    def records(self) -> int:
        """How many records training yields: one for so many iterations, and one of a start that has learned."""
        return -(-self.iterations // self.record_every) + bool(self.component_steps)

    @property
    def without_components(self) -> "PretrainingConfig":
        """The same for encoders alone."""
        return replace(self, model=replace(self.model, components=0), component_steps=0)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON gives them back."""
        return json.loads(json.dumps(asdict(self)))

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration: a cosine to `least_rate`, after a linear rise."""
        if iteration < self.warm_up:
            return self.learning_rate * (iteration + 1) / self.warm_up
        share = (iteration - self.warm_up) / max(1, self.iterations - self.warm_up)
        return self.least_rate + (self.learning_rate - self.least_rate) * (1 + math.cos(math.pi * share)) / 2


@dataclass(kw_only=True)
class State(Progress):
    """Everything that training moves."""

    # Ways to compute that change rounding at most, or how often files are written.
    free: ClassVar[Sequence[str]] = ("save_every", "checkpoint")
    unit: ClassVar[str] = "pairs"

    config: PretrainingConfig
    model: Cinp
    optimiser: torch.optim.Optimizer

    @classmethod
    def fresh(cls, config: PretrainingConfig, device: torch.device) -> "State":
        """A new model, the same for the same seed on every machine."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = Cinp(config.model)
        if config.image_weights:
            load_swin_ssl_weights(model.image_encoder, config.image_weights)
        model = model.to(device)
        return cls(config=config, device=device, model=model, optimiser=optimiser_of(model, config))

    def set_rate(self) -> None:
        """The learning rate of the present iteration."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(self.iteration)

    def parts(self) -> dict[str, Any]:
        """The model and its optimiser."""
        return {"model": self.model, "adamw": self.optimiser}


def optimiser_of(model: Cinp, config: PretrainingConfig) -> torch.optim.Optimizer:
    """AdamW, as the study names none; biases, norms and the temperature do not decay."""
    groups = [
        {"params": list(_trained(model, decays)), "weight_decay": config.weight_decay if decays else 0.0}
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _trained(model: nn.Module, decays: bool) -> Iterator[nn.Parameter]:
    yield from (p for p in model.parameters() if p.requires_grad and (p.ndim > 1) == decays)
