"""CINP's pre-training step beside a plain one of MONAI's parts, memory of a large batch by chunks, and hours on a GPU.

Every way has a process of its own, all wait while one works, and they take turns. Ratios are medians over rounds of the
two ways' times in one round, of wall and of CPU seconds; the latter also hold on a machine that others use (with
OMP_NUM_THREADS=1: waiting threads burn time too). Peak memory is that of the whole process, with its libraries; beside
it stands what the steps added to what the process held before the first.
"""

import os
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace

import torch

from benchmarks.cinp_projection import projection
from benchmarks.cinp_ways import Way, config_of
from benchmarks.worker import Worker

ROUNDS, STUDY_ROUNDS = 5, 3
CHUNK, LARGE = 16, 16  # pairs in memory at a time, and how many chunks a large batch has: K = 256
Answers = dict[str, list[dict[str, float]]]


def measure(rounds: float = ROUNDS, study_rounds: float = STUDY_ROUNDS, study_chunk: float = 0) -> dict[str, float]:
    """Ours beside plain at the demo's size and at the study's, and caching; on the GPU too, where there is one.

    0 rounds: a size is left out. `study_chunk`: pairs of a chunk in the caching of the study's size, which takes hours.
    """
    numbers = {"threads": torch.get_num_threads(), "load_average": round(os.getloadavg()[0], 1)}
    for size, number in {"demo": rounds, "demo_all_masked": rounds, "study": study_rounds}.items():
        numbers |= comparison(size, Way(size), int(number)) if number else {}
    numbers |= caching("demo_cached", Way("demo", chunk=CHUNK))
    if study_chunk:
        numbers |= caching("study_cached", Way("study", chunk=int(study_chunk)))
    if torch.cuda.is_available():
        numbers |= comparison("gpu_study", Way("study", batch=8, device="cuda"), ROUNDS) | projection()
    return numbers


def comparison(label: str, way: Way, rounds: int, steps: int = 1) -> dict[str, float]:
    """Pairs per second of both, ours over plain, and peak memory."""
    answers = in_turns({"plain": replace(way, plain=True), "ours": way}, rounds, steps)
    pairs = steps * config_of(way).batch
    numbers = {f"{name}_pairs_per_second": pairs / _median(mine, "seconds") for name, mine in answers.items()}
    for key, shown in {"seconds": "times_plain", "cpu_seconds": "times_plain_in_cpu_seconds"}.items():
        rows = zip(*answers.values(), strict=True)
        numbers[f"ours_{shown}"] = statistics.median(plain[key] / ours[key] for plain, ours in rows)
    return _labelled(label, numbers | _memory(answers))


def caching(label: str, way: Way) -> dict[str, float]:
    """Memory of one step on a large batch beside that on one chunk."""
    batches = {f"of_{number}": replace(way, batch=number) for number in (way.chunk, LARGE * way.chunk)}
    answers = {}
    for name, one in batches.items():
        answers |= in_turns({name: one}, 1)
    return _labelled(label, _memory(answers))


def in_turns(ways: Mapping[str, Way], rounds: int, steps: int = 1) -> Answers:
    """Each way's answers, round by round."""
    answers: Answers = {name: [] for name in ways}
    with ExitStack() as stack:
        workers = {}
        for name, way in ways.items():
            workers[name] = stack.enter_context(Worker("benchmarks.cinp_ways", name, asdict(way)))
            workers[name].take(0)  # warm, before the next one starts
        for _ in range(rounds):
            for name, worker in workers.items():
                answers[name].append(worker.take(steps))
    return answers


def _memory(answers: Answers) -> dict[str, float]:
    """Peaks of the processes, and what the steps added to what these held; the second way's over the first's."""
    peak = {name: mine[-1]["peak_mib"] for name, mine in answers.items()}
    added = {name: peak[name] - mine[-1]["held_mib"] for name, mine in answers.items()}
    numbers = {}
    for key, found in {"peak": peak, "added": added}.items():
        base, other = found
        numbers |= {f"{name}_{key}_mib": value for name, value in found.items()}
        numbers[f"{other}_{key}_times_{base}"] = found[other] / found[base]
    return numbers


def _median(answers: list[dict[str, float]], key: str) -> float:
    return statistics.median(answer[key] for answer in answers)


def _labelled(label: str, numbers: dict[str, float]) -> dict[str, float]:
    return {f"{label}_{name}": round(value, 3) for name, value in numbers.items()}
