"""Runs of one command that a notebook compares: before it, one job of the workflow for each variant and seed."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Grid:
    """`command` is a module and its options, started in outputs/<profile>; {variant}, {seed}, {profile} are filled in.

    The notebook's parameters `seed` and `n_seeds` say which seeds there are.
    """

    command: str
    result: str  # the file that a job leaves in the notebook's folder, with {variant} and {seed} in its name
    variants: tuple[str, ...]
    phantom_only: tuple[str, ...] = ()  # of these variants, those that are left out for a manifest of real data
    longest: tuple[str, ...] = ()  # those that begin first, so that no core waits for them at the end
    options: tuple[str, ...] = ()  # parameters of the notebook that the command takes too: `share` as --share

    def __post_init__(self) -> None:
        for text, words in ((self.command, ("{variant}", "{seed}")), (self.result, ("{variant}", "{seed}"))):
            if missing := [word for word in words if word not in text]:
                raise ValueError(f"grid: expected {' and '.join(missing)} in {text!r}")

    @property
    def module(self) -> str:
        """What the command starts."""
        return self.command.split()[0]

    def results(self, parameters: Mapping[str, Any]) -> list[str]:
        """The files that a notebook with these parameters compares."""
        first = parameters.get("seed", 0)
        seeds = range(first, first + parameters.get("n_seeds", 1))
        left_out = self.phantom_only if parameters.get("manifest") else ()
        variants = [name for name in self.variants if name not in left_out]
        return [self.result.format(variant=name, seed=seed) for name in variants for seed in seeds]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Variants by when they begin."""
        later = tuple(name for name in self.variants if name not in self.longest)
        return {name: own for name, own in (("longest", self.longest), ("variant", later)) if own}

    def own_options(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the notebook's parameters that a job depends on."""
        return {name: parameters[name] for name in self.options if name in parameters}

    def command_line(self, words: Mapping[str, Any], given: Mapping[str, Any], cards: int = 0) -> list[str]:
        """The command of one job; with more than one graphics card `torchrun` starts a process for each."""
        module, *arguments = [word.format(**words) for word in self.command.split()]
        arguments += [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={cards}", "-m"] if cards > 1 else []
        return [sys.executable, "-P", "-m", *several, module, *arguments]


def cards_given() -> int:
    """How many graphics cards this process was given: those that the scheduler names, else all of this machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
