"""Training steps of the GAN beside a plain one of StarGAN v2's order, and how cost grows with the number of slices.

Every way has a process of its own, so that peak memory is its own; all of them wait while one works, and take turns,
so that a busy machine slows all alike. Ratios are medians over rounds of the two ways' times in one round; those of CPU
seconds also hold on a machine that others use (with OMP_NUM_THREADS=1: waiting threads burn time too).
"""

import os
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict

import torch

from benchmarks.gan_scaling import scaling
from benchmarks.gan_ways import GPU_WAYS, STEPS, WAYS, Way
from benchmarks.worker import Worker

ROUNDS = 5


def measure(rounds: float = ROUNDS) -> dict[str, float]:
    """The table of all ways, on the GPU too where there is one, and exponents of cost in the number of slices."""
    ways = WAYS | (GPU_WAYS if torch.cuda.is_available() else {})
    about = {"threads": torch.get_num_threads(), "load_average": round(os.getloadavg()[0], 1)}
    return about | table(ways, int(rounds)) | scaling(int(rounds))


def table(ways: Mapping[str, Way], rounds: int, steps: int = STEPS) -> dict[str, float]:
    """Slices per second through all losses, peak memory, and both over those of `plain`."""
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(name, way)) for name, way in ways.items()}
        for _ in range(rounds):
            for name, worker in workers.items():
                answers[name].append(worker.take(steps))
    return {key: value for name in ways for key, value in _row(name, ways, answers, steps).items()}


def _row(name: str, ways: Mapping[str, Way], answers: dict[str, list], steps: int) -> dict[str, float]:
    """The numbers of one way."""
    plain, mine = "gpu_plain" if name.startswith("gpu_") else "plain", answers[name]
    slices = {key: steps * ways[key].slices for key in (name, plain)}
    numbers = {"slices_per_second": slices[name] / statistics.median(a["seconds"] for a in mine)}
    for key, times in {"seconds": "times_plain", "cpu_seconds": "times_plain_in_cpu_seconds"}.items():
        pairs = zip(mine, answers[plain], strict=True)
        numbers[times] = statistics.median(p[key] / a[key] for a, p in pairs) * slices[name] / slices[plain]
    numbers["peak_mib"] = mine[-1]["peak_mib"]
    numbers["peak_times_plain"] = mine[-1]["peak_mib"] / answers[plain][-1]["peak_mib"]
    return {f"{name}_{key}": round(value, 2) for key, value in numbers.items()}


def _worker(name: str, way: Way) -> Worker:
    known = (WAYS | GPU_WAYS)[name]
    changes = {key: value for key, value in asdict(way).items() if value != getattr(known, key)}
    return Worker("benchmarks.gan_ways", name, changes)
