"""A way to do something, in a process of its own that works only when it is asked.

So peak memory is each way's own, and all of them wait while one works: a busy machine slows all alike.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch

from study_lib.provenance import REPOSITORY


class Worker:
    """`python -m MODULE NAME CHANGES`: for every number on a line it answers with a line of JSON."""

    def __init__(self, module: str, name: str, changes: Mapping[str, Any] | None = None) -> None:
        command = [sys.executable, "-m", module, name, json.dumps(changes or {})]
        self.name = name
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=REPOSITORY, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def take(self, steps: int) -> dict[str, float]:
        """Time of so many steps, and the most memory so far."""
        print(steps, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmark: the process of {self.name} ended early; its error stands above")
        return json.loads(line)


def seconds_of(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Wall time of so many steps, when all of their work is done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return time.perf_counter() - begun
