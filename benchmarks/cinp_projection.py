"""How long the study's pre-training would take on this device: pairs per second of its preset, hours per epoch."""

import statistics

from benchmarks.cinp_ways import Trainer, Way

EPOCH = 4619  # pairs of the study
STEPS = 3
PAPER = Way("paper", device="cuda")


def projection(way: Way = PAPER, steps: int = STEPS) -> dict[str, float]:
    """Median of some updates on one device; data lie in memory, so reading files is not in it."""
    trainer = Trainer(way)
    trainer.seconds(1)
    pairs = trainer.config.batch / statistics.median(trainer.seconds(1) for _ in range(steps))
    numbers = {"pairs_per_second": pairs, "hours_per_epoch": hours_per_epoch(pairs), "peak_mib": trainer.peak_mib()}
    return {f"projection_{name}": round(value, 4) for name, value in numbers.items()}


def hours_per_epoch(pairs_per_second: float) -> float:
    """Of every pair of the study once."""
    return EPOCH / pairs_per_second / 3600
