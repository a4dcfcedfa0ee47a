"""Run one benchmark, or say which there are: `./run bench NAME`."""

import importlib
import inspect
import json
import sys
from pathlib import Path

from study_lib.files import atomic_write_json
from study_lib.provenance import REPOSITORY, git_state, machine

# name -> what it measures; benchmarks/<name>.py has `measure(**settings: float) -> dict[str, float]`
BENCHMARKS = {
    "runner": "seconds that running a notebook headless costs beside its cells",
    "connectivity": "BOLD to network: time and memory beside reading the file, and beside nilearn's straight path",
    "gan": "a training step of the GAN: time and memory beside a plain step of StarGAN v2's order, cost over slices",
    "gan_schedules": "time to the same validation error on StarGAN v2's order of updates and ours [seconds=60 seeds=3]",
    "cinp": "a pre-training step of CINP: time and memory beside MONAI's parts, memory of K = 256; on a GPU hours "
    "per epoch [rounds=5 study_rounds=3 study_chunk=0]",
}
RESULTS = REPOSITORY / "outputs" / "benchmarks"


def listing() -> str:
    """The benchmarks and what they measure."""
    lines = [f"  {name:<20} {meaning}" for name, meaning in BENCHMARKS.items()]
    return "\n".join(["./run bench NAME [SETTING=NUMBER ...], where NAME is one of", *lines])


def run(name: str, results: Path = RESULTS, **settings: float) -> dict[str, float]:
    """Measure, and keep the numbers with the machine that gave them."""
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark: expected one of {', '.join(BENCHMARKS)}; got {name!r}")
    measure = importlib.import_module(f"benchmarks.{name}").measure
    if strange := set(settings) - set(inspect.signature(measure).parameters):
        known = ", ".join(inspect.signature(measure).parameters) or "none"
        raise ValueError(f"{name}: expected settings among {known}; got {', '.join(sorted(strange))}")
    numbers = measure(**settings)
    atomic_write_json(results / f"{name}.json", {"numbers": numbers, **machine(), **git_state()})
    return numbers


def settings_of(words: list[str]) -> dict[str, float]:
    """`seconds=60` and the like."""
    pairs = [word.partition("=") for word in words]
    if wrong := [word for word, pair in zip(words, pairs, strict=True) if not pair[1]]:
        raise ValueError(f"benchmark: expected settings as NAME=NUMBER; got {' '.join(wrong)}")
    return {name: float(value) for name, _, value in pairs}


def main(arguments: list[str]) -> int:
    """The command line; gives the exit code."""
    if not arguments:
        print(listing())
        return 0
    try:
        print(json.dumps(run(arguments[0], **settings_of(arguments[1:])), indent=2))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
