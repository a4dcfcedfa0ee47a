"""Ways to take a step of CINP's pre-training, each timed in a process of its own: `python -m benchmarks.cinp_ways`.

The mathematics are those of a size's preset. The plain way is put together from MONAI's parts and has the graph of its
whole batch in memory; the other is `cinp_lib.pretrain.train_step`, in chunks where there are any.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from benchmarks.plain_pretraining import PlainPretraining
from benchmarks.worker import seconds_of
from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.model import Cinp
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.pair_store import PairStore
from cinp_lib.presets import preset
from cinp_lib.pretrain import train_step
from cinp_lib.pretraining_state import PretrainingConfig, State
from cinp_lib.starting_point import fit_inputs
from study_lib.memory import PeakMemory
from study_lib.training import Ranks

WARM_UP = 1
SCANS = 16  # that differ: those of all larger batches come again, so that data take the same memory in all
DEMO, PAPER = preset("demo").training, preset("paper").training
# The study's networks as MONAI has them unless told otherwise: nothing is computed again to save memory.
STUDY = replace(PAPER, model=replace(PAPER.model, image=replace(PAPER.model.image, checkpoint=False)), batch=2)
TINY_IMAGE = ImageEncoderConfig(size=(16, 16, 16), features=4, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=2)
TINY_NETWORK = NetworkEncoderConfig(regions=8, heads=2, hidden=8, clusters=4, reduced=2, embedding=12)
SIZES = {
    "demo": DEMO,  # 32 voxels a side, the masked image of one in four pairs
    "demo_all_masked": replace(DEMO, reconstruct_every=1),  # of every pair, as in the study
    "study": replace(STUDY, chunk=None, precision="float32"),  # 96 voxels a side
    "paper": PAPER,  # the same with all that saves memory on a GPU, and its batch of 256
    "tiny": replace(
        DEMO, model=replace(DEMO.model, image=TINY_IMAGE, network=TINY_NETWORK, embedding=10), batch=6, mask_block=4
    ),
}


@dataclass(frozen=True)
class Way:
    """What differs from way to way; None: as the size's preset has it."""

    size: str = "demo"
    plain: bool = False
    batch: int | None = None
    chunk: int | None = None
    device: str = "cpu"


class Trainer:
    """One way, ready to take steps on one batch."""

    def __init__(self, way: Way) -> None:
        self.way, self.config, self.ranks = way, config_of(way), Ranks(way.device)
        self.store, self.places = store_of(self.config), np.arange(self.config.batch)
        device = self.ranks.device
        self.plain = PlainPretraining(self.config, device) if way.plain else None
        self.state = None if way.plain else State.fresh(self.config, device)
        fit_inputs(self.model, self.store)

    @property
    def model(self) -> Cinp:
        """What is trained."""
        return (self.plain or self.state).model

    def step(self) -> dict[str, torch.Tensor]:
        """One iteration; gives the losses."""
        if self.plain:
            return self.plain.step(self.store, self.places)
        parts = train_step(self.state, self.store, self.places, self.ranks)
        self.state.iteration += 1
        return parts

    def seconds(self, steps: int) -> float:
        """Wall time of so many steps, when all of their work is done."""
        return seconds_of(self.step, steps, self.ranks.device)

    def peak_mib(self) -> float:
        """The most memory so far: of this process, or on the GPU."""
        on_gpu = self.ranks.device.type == "cuda"
        return torch.cuda.max_memory_allocated() / 2**20 if on_gpu else PeakMemory().mib()

    def held_mib(self) -> float:
        """The memory at this moment."""
        on_gpu = self.ranks.device.type == "cuda"
        return (torch.cuda.memory_allocated() if on_gpu else psutil.Process().memory_info().rss) / 2**20


def config_of(way: Way) -> PretrainingConfig:
    """The size's training, taken this way."""
    base = SIZES[way.size]
    return replace(base, batch=way.batch or base.batch, chunk=way.chunk or base.chunk)


def store_of(config: PretrainingConfig, scans: int = SCANS) -> PairStore:
    """Noise inside a ball and networks of noise, for a batch of strangers."""
    rng, size = np.random.default_rng(0), config.model.image.size
    regions, pairs = config.model.network.regions, config.batch
    centred = [(np.arange(n) + 0.5) / n - 0.5 for n in size]
    ball = sum(np.square(axis) for axis in np.meshgrid(*centred, indexing="ij")) < 0.2
    volumes = (rng.random((scans, *size), np.float32) * ball).astype(np.float16)
    networks = np.array([np.corrcoef(rng.standard_normal((regions, 40))) for _ in range(scans)], np.float32)
    names = [f"p{number}" for number in range(pairs)]
    table = pd.DataFrame({"subject": names, "family": names, "site": "noise"})
    places, arrays = np.arange(pairs) % scans, {"volumes": volumes, "networks": networks}
    return PairStore(Path(), "noise", table, table[:0], arrays, places, places)


def main(_: str, settings: str) -> None:
    """Time a block of steps of a `Way` for every line that comes in; its text is the number of steps."""
    trainer = Trainer(Way(**json.loads(settings)))
    held = trainer.held_mib()
    trainer.seconds(WARM_UP)
    for line in sys.stdin:
        begun = time.process_time()
        seconds = trainer.seconds(int(line))
        numbers = {"seconds": seconds, "cpu_seconds": time.process_time() - begun}
        print(json.dumps(numbers | {"peak_mib": trainer.peak_mib(), "held_mib": held}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
