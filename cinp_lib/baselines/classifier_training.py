"""Encoders that are trained with labels: minibatches, and an early stop by the validation part."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cinp_lib.augmentation import replayed
from cinp_lib.folds import Fold, FoldScores, Method, Scores
from cinp_lib.tasks import Task
from study_lib.training import check_finite, pick_device, stream

Inputs = Float[Tensor, "subject ..."]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ClassifierConfig:
    """Our choices, made on people of another phantom cohort (seed 11)."""

    epochs: int = 20
    patience: int = 4  # epochs without a better validation loss
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    device: str = "cpu"  # or cuda, or auto

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClassifierConfig.{name}: expected at least 1, got {getattr(self, name)}")


def trained_classifier(
    build: Callable[[], nn.Module], inputs: Inputs, task: Task, config: ClassifierConfig, change: Change | None = None
) -> Method:
    """A new classifier for each fold; row k of the inputs is person k of the task. `change` augments a batch."""
    if len(inputs) != len(task):
        raise ValueError(f"{task.name}: expected an input for each of {len(task)} people, got {len(inputs)}")
    labels, device = torch.from_numpy(task.y), pick_device(config.device)
    config = replace(config, device=str(device))

    def of(fold: Fold) -> FoldScores:
        with replayed(config.seed, device):
            model = build().to(device)
            epoch = fit_classifier(model, inputs, labels, fold, config, change)
        made = (classifier_scores(model, inputs, part, config) for part in (fold.validation, fold.test))
        return FoldScores(*made, {"epoch": epoch})

    return of


def fit_classifier(
    model: nn.Module,
    inputs: Inputs,
    labels: Int[Tensor, " subject"],
    fold: Fold,
    config: ClassifierConfig,
    change: Change | None = None,
) -> int:
    """Train until the validation loss has stopped to fall; the model then has its best state. Gives that epoch."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    weight = class_weights(labels[fold.training]).to(config.device)
    best, kept, at = np.inf, copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        for places in _batches(fold.training, config, f"{fold.name} batches", epoch):
            batch = inputs[places].to(config.device)
            logits = model(change(batch) if change else batch)
            loss = functional.cross_entropy(logits, labels[places].to(config.device), weight)
            check_finite({"cross_entropy": loss}, epoch, fold.name)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        logits = torch.from_numpy(classifier_scores(model, inputs, fold.validation, config)).float()
        found = float(functional.cross_entropy(logits, labels[fold.validation], weight.cpu()))
        if found < best:
            best, kept, at = found, copy.deepcopy(model.state_dict()), epoch
        elif epoch - at >= config.patience:
            break
    model.load_state_dict(kept)
    return at


def classifier_scores(model: nn.Module, inputs: Inputs, part: np.ndarray, config: ClassifierConfig) -> Scores:
    """Logits less their mean over the classes, in eval mode."""
    model.eval()
    with torch.no_grad():
        made = [
            model(inputs[places].to(config.device)).float().cpu()
            for places in np.array_split(part, -(-len(part) // 64))
        ]
    logits = torch.cat(made).double().numpy()
    return logits - logits.mean(1, keepdims=True)


def class_weights(labels: Int[Tensor, " subject"]) -> Float[Tensor, " class"]:
    """Every class counts alike, however many people it has; the mean over people is 1."""
    counts = torch.bincount(labels)
    return len(labels) / (len(counts) * counts.clamp(min=1)).float()


def _batches(part: np.ndarray, config: ClassifierConfig, name: str, epoch: int) -> Iterator[np.ndarray]:
    """Everybody once; a last batch of one, which batch norms cannot take, joins the one before."""
    order = stream(config.seed, name, epoch).permutation(part)
    yield from np.array_split(order, max(1, round(len(order) / config.batch)))
