"""Train a ResNet-50 to name the class of a slice, and keep what it answers.

The budget and the stopping rule are the config's, the same for every attack: a number of steps, cut short where the
validation loss has not improved for `patience` looks. Of all looks the state of the lowest loss answers.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gan_lib.site_classifier.examples import SiteSlices
from gan_lib.site_classifier.resnet import load_imagenet_weights
from gan_lib.site_classifier.slice_classifier import SliceClassifier
from study_lib.training import Precision, check_finite, stream

Logits = Float[np.ndarray, "slice label"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How one classifier is trained. Rates and augmentation are our choice; the study names the network only."""

    # What minutes on two cores allow; whether it is enough, the planted mark of notebook 06 says.
    steps: int = 120
    batch: int = 32
    detail: bool = True  # a second channel of our own; the study's network sees the slice alone
    crop: int | None = None  # side in pixels of the part that is trained on; None = the whole slice
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of the steps in which the rate rises; then it falls along a cosine
    smoothing: float = 0.05  # of the labels
    shift: int = 3  # pixels by which whole slices are moved
    jitter: float = 0.005  # sd of gain and offset: more would hide what tells sites apart
    validate_every: int = 40
    patience: int = 2
    calibration: int = 8  # training batches that batch norm's statistics are taken over before each look
    precision: str = "bf16"
    weights: str = ""  # path of torchvision's ImageNet weights; "" = from scratch

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "patience", "calibration"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClassifierConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.crop is not None and self.crop < 32:
            raise ValueError(f"ClassifierConfig.crop: expected None or at least 32 pixels, got {self.crop}")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = max(1, round(self.warm_up * self.steps))
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


def fitted(
    slices: SiteSlices, config: ClassifierConfig, seed: int, device: torch.device
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The network of the best look, in eval mode, and all records."""
    training = _Training(slices.check(), config, seed, device)
    records = list(training.run())
    training.network.load_state_dict(training.best)
    return training.network.eval(), records


def answers(network: nn.Module, slices: SiteSlices, precision: str = "float32", batch: int = 64) -> Logits:
    """One logit per slice and class."""
    device = next(network.parameters()).device
    network.eval()
    found = []
    with torch.no_grad(), Precision(precision).autocast(device):
        for start in range(0, len(slices), batch):
            images = _tensor(slices.images[start : start + batch], device)
            found.append(network(images).float().cpu().numpy())
    return np.concatenate(found)


class _Training:
    """One run: the network, its optimiser, and the best state so far."""

    def __init__(self, slices: SiteSlices, config: ClassifierConfig, seed: int, device: torch.device) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.training, self.validation = slices.of_role("train"), slices.of_role("validation")
        self.network = SliceClassifier(len(slices.names), seed, config.detail)
        if config.weights:
            load_imagenet_weights(self.network.resnet, config.weights)
        self.network.to(device, memory_format=torch.channels_last)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.best: dict[str, Tensor] = {}
        self.batches = _Batches(self.training, config, seed)

    def run(self) -> Iterator[dict[str, float]]:
        lowest, waited, losses = math.inf, 0, []
        for step in range(self.config.steps):
            losses.append(self.step(step))
            if (step + 1) % self.config.validate_every and step + 1 < self.config.steps:
                continue
            record = {"step": step + 1, "loss": float(np.mean(losses)), **self.look(step)}
            waited = waited + 1 if record["validation_loss"] >= lowest else 0
            if not waited:
                lowest, self.best = record["validation_loss"], copy.deepcopy(self.network.state_dict())
            losses = []
            yield record
            if waited >= self.config.patience:
                return

    def step(self, step: int) -> float:
        images, labels, subjects = self.batches.draw(step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(step)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with Precision(self.config.precision).autocast(self.device):
            logits = self.network(_tensor(images, self.device))
        wanted = torch.from_numpy(labels).to(self.device)
        loss = functional.cross_entropy(logits.float(), wanted, label_smoothing=self.config.smoothing)
        check_finite({"cross_entropy": loss}, step, sorted(set(subjects.tolist())))
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def look(self, step: int) -> dict[str, float]:
        """Loss and balanced accuracy on validation slices."""
        self.calibrate(step)
        logits = torch.from_numpy(answers(self.network, self.validation, self.config.precision))
        labels = torch.from_numpy(self.validation.labels)
        said = logits.argmax(dim=1)
        recalls = [float((said[labels == k] == k).float().mean()) for k in labels.unique()]
        loss = float(functional.cross_entropy(logits, labels, label_smoothing=self.config.smoothing))
        return {"validation_loss": loss, "validation_accuracy": float(np.mean(recalls))}

    def calibrate(self, step: int) -> None:
        """Batch norm's means over batches of the present weights: running ones lag behind in so short a training."""
        norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        momentum = [module.momentum for module in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # the plain mean over batches
        self.network.train()
        with torch.no_grad(), Precision(self.config.precision).autocast(self.device):
            for number in range(self.config.calibration):
                images, _, _ = self.batches.draw(number, f"calibration at {step}", whole=True)
                self.network(_tensor(images, self.device))
        for module, before in zip(norms, momentum, strict=True):
            module.momentum = before


class _Batches:
    """Every batch holds all classes alike; within a class all subjects come as often, however many slices they have."""

    def __init__(self, slices: SiteSlices, config: ClassifierConfig, seed: int) -> None:
        self.slices, self.config, self.seed = slices, config, seed
        self.rows: list[list[np.ndarray]] = []
        for label in range(len(slices.names)):
            own = np.flatnonzero(slices.labels == label)
            self.rows.append([own[slices.subjects[own] == name] for name in np.unique(slices.subjects[own])])

    def draw(
        self, step: int, purpose: str = "classifier", whole: bool = False
    ) -> tuple[Float[np.ndarray, "batch height width"], Int[np.ndarray, " batch"], np.ndarray]:
        """Images with augmentation, labels and subjects of a step."""
        rng = stream(self.seed, purpose, step)
        labels = rng.permutation(np.arange(self.config.batch) + rng.integers(len(self.rows))) % len(self.rows)
        rows = np.array([rng.choice(self.rows[label][rng.integers(len(self.rows[label]))]) for label in labels])
        crop = None if whole else self.config.crop
        images = [_moved(self.slices.images[row], crop, self.config.shift, rng) for row in rows]
        gain, offset = 1 + self.config.jitter * rng.standard_normal(len(rows)), rng.standard_normal(len(rows))
        images = np.stack(images).astype(np.float32)
        brain = images != 0
        images = images * gain[:, None, None] + self.config.jitter * offset[:, None, None]
        return np.where(brain, images, 0).astype(np.float32), labels.astype(np.int64), self.slices.subjects[rows]


def _moved(
    image: Float[np.ndarray, "height width"], crop: int | None, shift: int, rng: np.random.Generator
) -> Float[np.ndarray, "a b"]:
    """A part of the slice, or all of it moved by some pixels; no mirror images, since coils have sides."""
    if crop is None:
        return np.roll(image, rng.integers(-shift, shift + 1, size=2), axis=(0, 1))  # the rim is background
    top, left = (int(rng.integers(max(1, n - crop + 1))) for n in image.shape)
    return image[top : top + crop, left : left + crop]


def _tensor(images: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None]
    return tensor.to(device, memory_format=torch.channels_last)
