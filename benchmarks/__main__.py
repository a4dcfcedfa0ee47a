"""Run one benchmark, or say which there are: `./run bench NAME`."""

import importlib
import json
import sys
from pathlib import Path

from study_lib.files import atomic_write_json
from study_lib.provenance import REPOSITORY, git_state, machine

# name -> what it measures; benchmarks/<name>.py has `measure() -> dict[str, float]`
BENCHMARKS = {
    "runner": "seconds that running a notebook headless costs beside its cells",
    "connectivity": "BOLD to network: time and memory beside reading the file, and beside nilearn's straight path",
}
RESULTS = REPOSITORY / "outputs" / "benchmarks"


def listing() -> str:
    """The benchmarks and what they measure."""
    lines = [f"  {name:<20} {meaning}" for name, meaning in BENCHMARKS.items()]
    return "\n".join(["./run bench NAME, where NAME is one of", *lines])


def run(name: str, results: Path = RESULTS) -> dict[str, float]:
    """Measure, and keep the numbers with the machine that gave them."""
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark: expected one of {', '.join(BENCHMARKS)}; got {name!r}")
    numbers = importlib.import_module(f"benchmarks.{name}").measure()
    atomic_write_json(results / f"{name}.json", {"numbers": numbers, **machine(), **git_state()})
    return numbers


def main(arguments: list[str]) -> int:
    """The command line; gives the exit code."""
    if not arguments:
        print(listing())
        return 0
    try:
        print(json.dumps(run(arguments[0]), indent=2))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
