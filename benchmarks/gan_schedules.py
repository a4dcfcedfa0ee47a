"""Time to the same validation error: StarGAN v2's order of updates beside ours, over several seeds.

Networks, losses, rates, batches and the way operations are computed are the same for all; what differs is when the
optimisers step and how often R1 is taken. The runs of one seed take turns, a few iterations each, so that a busy
machine slows all alike; validation is not counted. `./run bench gan_schedules seconds=300 seeds=3` takes longer.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gan_lib.presets import preset
from gan_lib.slices import SliceSampler
from gan_lib.train import train_step
from gan_lib.training_data import TrainingData, training_data
from gan_lib.training_state import State, TrainingConfig
from gan_lib.validation import validation_error
from study_lib.files import atomic_write_text
from study_lib.provenance import REPOSITORY
from study_lib.training import Ranks

RESULTS = REPOSITORY / "outputs" / "benchmarks"
# name -> schedule, and in one of how many steps R1 is taken
SCHEDULES = {"plain_order": ("separate", 1), "merged_lazy": ("merged", 16), "alternating_lazy": ("alternating", 16)}
COLOURS = {"plain_order": "#D55E00", "merged_lazy": "#009E73", "alternating_lazy": "#0072B2"}


@dataclass(frozen=True)
class Budget:
    """How long every schedule may train for each seed, and how often it is looked at meanwhile."""

    seconds: float = 60.0
    seeds: int = 3
    looks: int = 8
    turn: int = 4  # iterations until it is another schedule's turn


def measure(seconds: float = 60, seeds: float = 3) -> dict[str, float]:
    """Train on the smoke phantom; curves go to `gan_schedules.csv` and `.png`."""
    data = smoke_data(RESULTS / "gan_schedules")
    curves = all_curves(data, preset("demo").for_store(data.training), Budget(seconds, int(seeds)))
    return keep(curves, RESULTS)


def smoke_data(folder: Path) -> TrainingData:
    """Slices of the smoke phantom, which is made where it is not there yet."""
    from study_lib.manifest import load_manifest
    from study_lib.phantom.cohort import ensure_cohort
    from study_lib.phantom.spec import spec_for

    manifest = ensure_cohort(REPOSITORY / "outputs" / "smoke" / "phantom", spec_for("smoke"))
    cohort = load_manifest(manifest, check_files=False)
    return training_data(cohort, cohort.table, folder / "slices", preset("demo"))


def keep(curves: pd.DataFrame, results: Path) -> dict[str, float]:
    """Write table and figure; give the numbers."""
    atomic_write_text(results / "gan_schedules.csv", curves.to_csv(index=False))
    draw(curves).savefig(results / "gan_schedules.png", dpi=150)
    return numbers(curves)


def all_curves(data: TrainingData, base: TrainingConfig, budget: Budget) -> pd.DataFrame:
    """Validation error over seconds of training, for every schedule and seed."""
    rows = []
    for seed in range(budget.seeds):
        runs = {name: Run(name, config_of(base, name, seed), data) for name in SCHEDULES}
        for look in range(budget.looks + 1):
            train_until(runs, budget.seconds * look / budget.looks, budget.turn)
            rows += [{"seed": seed} | run.look() for run in runs.values()]
    return pd.DataFrame(rows)


def config_of(base: TrainingConfig, name: str, seed: int) -> TrainingConfig:
    """The same training on another schedule."""
    schedule, r1_every = SCHEDULES[name]
    step = replace(base.step, schedule=schedule, weights=replace(base.step.weights, r1_every=r1_every))
    return replace(base, step=step, seed=seed)


class Run:
    """One training run, and the seconds that it has taken so far."""

    def __init__(self, name: str, config: TrainingConfig, data: TrainingData) -> None:
        self.name, self.data, self.seconds, self.ranks = name, data, 0.0, Ranks()
        self.sampler = SliceSampler(data.training, config.batch, config.seed, config.draw)
        self.state = State.fresh(config, self.ranks.device)

    def advance(self, iterations: int) -> None:
        """Train a little further."""
        begun = time.perf_counter()
        for _ in range(iterations):
            parts = train_step(self.state, self.sampler.draw(self.state.iteration).to(self.ranks.device), self.ranks)
            self.state.iteration += 1
        float(parts["discriminator"])  # waits for a GPU
        self.seconds += time.perf_counter() - begun

    def look(self) -> dict[str, float | str]:
        """How good it is by now."""
        error = validation_error(self.state.average.module, self.data.training, self.data.validation)
        place = {"schedule": self.name, "iteration": self.state.iteration, "seconds": self.seconds}
        return place | vars(error) | {"error": error.total}


def train_until(runs: Mapping[str, Run], seconds: float, turn: int) -> None:
    """In turns, until each has trained for so long."""
    while waiting := [run for run in runs.values() if run.seconds < seconds]:
        for run in waiting:
            run.advance(turn)


def numbers(curves: pd.DataFrame) -> dict[str, float]:
    """Seconds to the lowest error that all schedules reach, plain order's over each; medians over seeds."""
    found: dict[str, list[float]] = {}
    for _, seed in curves.groupby("seed"):
        runs = {name: run.sort_values("seconds") for name, run in seed.groupby("schedule")}
        level = max(run["error"].min() for run in runs.values())
        reached = {name: float(run.loc[run["error"] <= level, "seconds"].iloc[0]) for name, run in runs.items()}
        for name, run in runs.items():
            found.setdefault(f"{name}_seconds_to_common_error", []).append(reached[name])
            found.setdefault(f"{name}_last_error", []).append(float(run["error"].iloc[-1]))
            if reached[name] > 0 and name != "plain_order":
                found.setdefault(f"plain_order_times_{name}", []).append(reached["plain_order"] / reached[name])
    return {name: round(float(np.median(values)), 4) for name, values in sorted(found.items())}


def draw(curves: pd.DataFrame) -> Figure:
    """A thin line for each seed, a thick one for their median at each look."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.groupby("schedule"):
        colour = COLOURS[name]
        for _, run in runs.groupby("seed"):
            axes.plot(run["seconds"], run["error"], color=colour, lw=0.7, alpha=0.6)
        median = runs.assign(look=runs.groupby("seed").cumcount()).groupby("look")[["seconds", "error"]].median()
        axes.plot(median["seconds"], median["error"], color=colour, lw=2.2, label=name.replace("_", " "))
    axes.set(xlabel="seconds of training", ylabel="validation error (phantom)")
    axes.set_title(f"median of {curves['seed'].nunique()} seeds, and each seed")
    axes.legend(frameon=False)
    return figure
