"""Ways to take one training step of the GAN, each timed in a process of its own: `python -m benchmarks.gan_ways NAME`.

All have the same networks, losses and batch. `plain` is StarGAN v2's order, plainly written. The others are ours:
`separate` gives the same gradients as `plain`; the rest change the schedule, by R1 in one step of 16 at 16 times the
weight, by one update on both kinds of styles, by taking the kinds in turns, or by giving neighbours all losses.
"""

import json
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.plain_gan import PlainNetworks
from benchmarks.plain_step import PlainTraining
from benchmarks.worker import seconds_of
from gan_lib.networks import NetworkConfig
from gan_lib.presets import preset
from gan_lib.slices import SliceBatch
from gan_lib.train import train_step
from gan_lib.train_step import Networks, StepConfig
from gan_lib.training_state import State, TrainingConfig
from study_lib.memory import PeakMemory
from study_lib.training import Ranks, stream

STEPS = 16  # in a round of lazy R1, and so in a block that is timed
WARM_UP = 2
NETWORKS = {
    "demo": replace(preset("demo").training.networks, size=(96, 80)),  # a brain at 2 mm
    "paper": preset("paper").training.networks,
    "tiny": NetworkConfig(size=(16, 16), width=4, cap=8, hidden=8),
}


@dataclass(frozen=True)
class Way:
    """What differs from way to way."""

    schedule: str = "plain"
    r1_every: int = 1
    precision: str = "float32"
    join: bool = False
    batch: int = 4
    networks: str = "demo"
    device: str = "cpu"

    @property
    def slices(self) -> float:
        """How many slices an iteration takes through all losses, in both kinds of styles."""
        return self.batch * (2 if self.join else 1) / (2 if self.schedule == "alternating" else 1)


WAYS = {
    "plain": Way(),
    "separate": Way("separate"),
    "separate_lazy": Way("separate", STEPS),
    "merged_lazy": Way("merged", STEPS),
    "merged_lazy_bf16": Way("merged", STEPS, "bf16"),
    "alternating_lazy_bf16": Way("alternating", STEPS, "bf16"),
    "alternating_lazy_bf16_joined": Way("alternating", STEPS, "bf16", join=True),
}
GPU_WAYS = {f"gpu_{name}": replace(way, batch=8, networks="paper", device="cuda") for name, way in WAYS.items()}


class Trainer:
    """One way, ready to take steps on one batch; losses are those of `demo`, the diversification always on.

    `changes` are of its `TrainingConfig`.
    """

    def __init__(self, way: Way, **changes: float) -> None:
        self.way, self.device, self.config = way, torch.device(way.device), replace(config_of(way), **changes)
        self.batch = batch_of(self.config.networks.size, way.batch, self.config.networks.sites).to(self.device)
        self.ranks = Ranks(way.device)
        if way.schedule == "plain":
            self.plain = PlainTraining(plain_networks(self.config).to(self.device), self.config)
            self.batch = _in_rows(self.batch)
        else:
            self.plain, self.state = None, State.fresh(self.config, self.device)

    def step(self) -> dict[str, torch.Tensor]:
        """One iteration; gives the losses."""
        if self.plain:
            drawn = stream(self.config.seed, "latents", self.plain.iteration)
            latents = torch.from_numpy(drawn.standard_normal((2, self.way.batch, self.config.networks.latent)))
            return self.plain.step(self.batch, tuple(latents.float().to(self.device)))
        parts = train_step(self.state, self.batch, self.ranks)
        self.state.iteration += 1
        return parts

    def seconds(self, steps: int = STEPS) -> float:
        """Wall time of so many steps, when all of their work is done."""
        return seconds_of(self.step, steps, self.device)


def config_of(way: Way) -> TrainingConfig:
    """The demo's training, taken this way."""
    base = preset("demo").training
    weights = replace(base.step.weights, r1_every=way.r1_every, diversification_iterations=10**6)
    schedule = "separate" if way.schedule == "plain" else way.schedule
    step = StepConfig(weights=weights, schedule=schedule, neighbours_join=way.join)
    return replace(base, networks=NETWORKS[way.networks], step=step, batch=way.batch, precision=way.precision)


def plain_networks(config: TrainingConfig) -> PlainNetworks:
    """The plain networks with weights that begin as ours do."""
    torch.manual_seed(config.seed)
    weights = Networks(config.networks).state_dict()
    networks = PlainNetworks(config.networks)
    networks.load_state_dict(weights)
    return networks


def batch_of(size: tuple[int, int], number: int, sites: int) -> SliceBatch:
    """Noise inside an ellipse, channels last as the sampler gives it."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(size)
    mask = np.hypot((rows + 0.5) / size[0] - 0.5, (columns + 0.5) / size[1] - 0.5) < 0.45
    masks = np.broadcast_to(mask[:, :, None], (number, *size, 1)).copy()
    images = rng.random((4, *masks.shape), np.float32) * masks
    first, neighbours, references, others, masks = (
        torch.from_numpy(array).permute(0, 3, 1, 2) for array in (*images, masks)
    )
    place = torch.arange(number)
    names = tuple(str(n) for n in range(number))
    return SliceBatch(
        *(first, neighbours, masks, masks, references, others),
        source_site=place % sites,
        target_site=(place + 1) % sites,
        subjects=names,
        reference_subjects=names,
        where=names,
    )


def peak_mib(way: Way) -> float:
    """The most memory so far: of this process, or on the GPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if way.device == "cuda" else PeakMemory().mib()


def _in_rows(batch: SliceBatch) -> SliceBatch:
    """Laid out as torch does unless told otherwise."""
    tensors = {name: value.contiguous() for name, value in vars(batch).items() if torch.is_tensor(value)}
    return replace(batch, **tensors)


def main(name: str, changes: str = "{}") -> None:
    """Time a block of steps for every line that comes in; its text is the number of steps."""
    way = replace((WAYS | GPU_WAYS)[name], **json.loads(changes))
    trainer = Trainer(way)
    trainer.seconds(WARM_UP)
    for line in sys.stdin:
        begun = time.process_time()
        seconds = trainer.seconds(int(line))
        cpu = time.process_time() - begun
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib(way)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
