"""What training moves and a checkpoint holds: networks, their average, optimisers, and how far training has come."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from gan_lib.networks import NetworkConfig
from gan_lib.slices import DrawConfig
from gan_lib.train_step import Networks, Optimisers, StepConfig
from study_lib.training import Ema
from study_lib.training.progress import Progress


@dataclass(frozen=True)
class TrainingConfig:
    """The defaults are the study's; where it is silent, those of StarGAN v2, which it builds on."""

    networks: NetworkConfig = field(default_factory=NetworkConfig)
    step: StepConfig = field(default_factory=StepConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    iterations: int = 16_000  # the study's "epochs", which we read as iterations
    batch: int = 8
    learning_rate: float = 1e-4
    mapping_rate: float = 1e-6  # of the mapping network
    discriminator_rate: float | None = None  # None = `learning_rate`
    decay_from: float = 1.0  # share of the iterations after which the rates fall linearly to 0; 1 = never
    betas: tuple[float, float] = (0.0, 0.99)
    weight_decay: float = 1e-4  # joins the gradient, as Adam has it
    ema: float = 0.999
    precision: str = "float32"
    seed: int = 0
    record_every: int = 50
    save_every: int = 500
    validate_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "record_every", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainingConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.validate_every % self.record_every:
            raise ValueError(
                f"TrainingConfig.validate_every: expected a multiple of record_every ({self.record_every}), "
                f"got {self.validate_every}"
            )
        if not 0 <= self.decay_from <= 1:
            raise ValueError(f"TrainingConfig.decay_from: expected a share from 0 to 1, got {self.decay_from}")

    @property
    def records(self) -> int:
        """How many records training yields."""
        return -(-self.iterations // self.record_every)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON gives them back."""
        return json.loads(json.dumps(asdict(self)))

    def rate_share(self, iteration: int) -> float:
        """What is left of the learning rates at an iteration."""
        decay = (1 - self.decay_from) * self.iterations
        return 1.0 if decay == 0 else min(1.0, (self.iterations - iteration) / decay)


@dataclass(kw_only=True)
class State(Progress):
    """Everything that training moves."""

    unit: ClassVar[str] = "images"

    config: TrainingConfig
    networks: Networks
    average: Ema
    optimisers: Optimisers

    @classmethod
    def fresh(cls, config: TrainingConfig, device: torch.device) -> "State":
        """New networks, the same for the same seed on every machine; the average begins as their copy."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            networks = Networks(config.networks)
        networks = networks.to(device, memory_format=torch.channels_last)
        return cls(
            config=config,
            device=device,
            networks=networks,
            average=Ema(networks, config.ema, warm_up=True),
            optimisers=optimisers_of(networks, config, device),
        )

    def set_rates(self) -> None:
        """The learning rates of the present iteration."""
        config, share = self.config, self.config.rate_share(self.iteration)
        for name, optimiser in vars(self.optimisers).items():
            for group in optimiser.param_groups:
                group["lr"] = share * _rate(config, name)

    def parts(self) -> dict[str, Any]:
        """Networks, their average and the optimisers."""
        optimisers = {f"{name}_adam": optimiser for name, optimiser in vars(self.optimisers).items()}
        return {"networks": self.networks, "average": self.average, **optimisers}


def optimisers_of(networks: Networks, config: TrainingConfig, device: torch.device) -> Optimisers:
    """Adam for each of the four networks, fused: one pass over the weights."""
    names = ("generator", "mapping", "encoder", "discriminator")
    shared = {"betas": config.betas, "weight_decay": config.weight_decay, "fused": device.type in ("cpu", "cuda")}
    made = {
        name: torch.optim.Adam(getattr(networks, name).parameters(), lr=_rate(config, name), **shared) for name in names
    }
    return Optimisers(**made)


def _rate(config: TrainingConfig, network: str) -> float:
    if network == "discriminator" and config.discriminator_rate is not None:
        return config.discriminator_rate
    return config.mapping_rate if network == "mapping" else config.learning_rate
