"""Asking for trainings in processes of their own, and comparing how they end; for tests of both studies."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from study_lib.training import Checkpoints

MACHINE = {"images_per_second", "pairs_per_second"}  # the rest of a record is the same on every run


@contextmanager
def served(script: Path, data: Path) -> Iterator[Callable[..., dict]]:
    """A function that sends requests to `killable_runs` of a script, and gives the answers."""
    call = [sys.executable, str(script), str(data)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def request(folder: Path, **wanted) -> dict:
            server.stdin.write(json.dumps({"folder": str(folder), **wanted}) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield request
        server.stdin.close()


@contextmanager
def alone(monkeypatch) -> Iterator[None]:
    """One rank and one thread: bits depend on the number of threads."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def undisturbed(ask: Callable[..., dict], folder: Path) -> tuple[Path, list, float]:
    """A run that nothing disturbs: folder, records, CPU seconds."""
    answer = ask(folder)
    assert answer["codes"] == [0]
    return folder, *(answer["said"][0][name] for name in ("records", "seconds"))


def timeless(records):
    return [{name: value for name, value in record.items() if name not in MACHINE} for record in records]


def content(folder, name=""):
    checkpoints = Checkpoints(folder / "checkpoints")
    return checkpoints.load(name) if name else checkpoints.latest()


def expect_same_end(folder, other):
    """All that moved and the records, of the last and of the best state, bit by bit."""
    for name in ("", "best"):
        one, two = content(folder, name), content(other, name)
        assert one.step == two.step
        assert one.tensors.keys() == two.tensors.keys()
        assert [key for key in two.tensors if not torch.equal(one.tensors[key], two.tensors[key])] == []
        assert timeless(one.state["records"]) == timeless(two.state["records"])
        assert one.state["best"] == two.state["best"]
