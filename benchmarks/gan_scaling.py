"""How the time of a training step and of a translation grows with the number of slices: curves, and their exponents."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.gan_ways import NETWORKS, Trainer, Way
from study_lib.files import atomic_write_text
from study_lib.provenance import REPOSITORY

RESULTS = REPOSITORY / "outputs" / "benchmarks"
BATCHES = (2, 4, 8, 16, 32)
SLICES = (16, 32, 64, 128, 256)


def scaling(rounds: int, results: Path = RESULTS, networks: str = "demo") -> dict[str, float]:
    """Exponents (1 = linear) of seconds over slices; the curves go to `gan_scaling.csv` and `.png`."""
    curves = pd.concat([training_curve(BATCHES, rounds, networks), inference_curve(SLICES, rounds, networks)])
    atomic_write_text(results / "gan_scaling.csv", curves.to_csv(index=False))
    draw(curves).savefig(results / "gan_scaling.png", dpi=150)
    return {f"{what}_exponent": exponent(curve) for what, curve in curves.groupby("what")}


def training_curve(batches: Sequence[int], rounds: int, networks: str = "demo") -> pd.DataFrame:
    """Seconds of one merged step with R1, in rounds over all batch sizes."""
    ways = {number: Way("merged", batch=number, networks=networks) for number in batches}
    trainers = {number: Trainer(way) for number, way in ways.items()}
    for trainer in trainers.values():
        trainer.seconds(1)
    rows = [(n, trainer.seconds(1)) for _ in range(rounds) for n, trainer in trainers.items()]
    return _curve("training_step", rows)


def inference_curve(counts: Sequence[int], rounds: int, networks: str = "demo") -> pd.DataFrame:
    """Seconds to translate a stack of so many slices."""
    from gan_lib.networks import Generator
    from gan_lib.translation import translate_stack

    config = NETWORKS[networks]
    generator = Generator(config).eval()
    stack = np.random.default_rng(0).random((max(counts), *config.size), np.float32)
    style, rows = np.zeros(config.style, np.float32), []
    translate_stack(generator, stack[: counts[0]], style)
    for _ in range(rounds):
        for number in counts:
            begun = time.perf_counter()
            translate_stack(generator, stack[:number], style)
            rows.append((number, time.perf_counter() - begun))
    return _curve("translation", rows)


def exponent(curve: pd.DataFrame) -> float:
    """The slope of log seconds over log slices."""
    return round(float(np.polyfit(np.log(curve["slices"]), np.log(curve["seconds"]), 1)[0]), 3)


def draw(curves: pd.DataFrame) -> Figure:
    """Both curves on logarithmic axes, beside a line of slope 1."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, (what, curve) in zip(axes, curves.groupby("what"), strict=True):
        ax.loglog(curve["slices"], curve["seconds"], "o-", color="#0072B2", label=f"exponent {exponent(curve)}")
        linear = curve["seconds"].iloc[-1] * curve["slices"] / curve["slices"].iloc[-1]
        ax.loglog(curve["slices"], linear, ":", color="#999999", label="linear")
        ax.set(xlabel="slices", ylabel="seconds (median)", title=what.replace("_", " "))
        ax.legend(frameon=False)
    return figure


def _curve(what: str, rows: list[tuple[int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["slices", "seconds"])
    return table.groupby("slices", as_index=False)["seconds"].median().assign(what=what)
