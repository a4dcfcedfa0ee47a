"""Trainings as processes that can be killed; `gan_runs` and `cinp_runs` say what is trained.

Started as `python tests/gan_runs.py FOLDER`, they take one request a line. A request is JSON with `folder`, and of
these what is wanted: `changes` (of the settings), `ranks`, `kill_after` (seconds of CPU), `kill_at_sync` (the number of
the call that asks the disk to keep what was written: a checkpoint makes one when it is written and one when it has its
name), `term_at` (iteration). The answer holds the exit code of every rank, and what it said. All are forks of one
process, so that torch is imported once.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import psutil
import torch
import torch._dynamo
from torch import distributed

from study_lib.training import CallAgain, Ranks

# Folder, changes of the settings and ranks in; records out.
Training = Callable[[Path, dict, Ranks], Iterable[dict]]


def serve(training: Training) -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        ranks = range(request.get("ranks", 1))
        children = [start(request, rank, training) for rank in ranks]
        if "kill_after" in request:
            kill(children[0], request["kill_after"])
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        said = [json.loads(path.read_text()) if path.exists() else {} for path in map(folder.joinpath, names(ranks))]
        print(json.dumps({"codes": codes, "said": said}), flush=True)


def names(ranks: range) -> list[str]:
    """Where each rank leaves its words."""
    return [f"said-{rank}.json" for rank in ranks]


def start(request: dict, rank: int, training: Training) -> int:
    """Fork one rank."""
    said = Path(request["folder"]) / names(range(rank + 1))[-1]
    said.unlink(missing_ok=True)
    if child := os.fork():
        return child
    code = 1
    try:
        code = work(request, rank, training, said)
    finally:
        os._exit(code)


def work(request: dict, rank: int, training: Training, said: Path) -> int:
    """Train, and write down what came of it."""
    begun, folder, world = time.process_time(), Path(request["folder"]), request.get("ranks", 1)
    if "kill_at_sync" in request:
        kill_at_sync(request["kill_at_sync"])
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    if world > 1:
        distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    running, records, words = partial(training, folder, request.get("changes", {})), [], ""
    try:
        with Ranks("cpu") as ranks:
            for record in running(ranks):
                records.append(record)
                if record["iteration"] == request.get("term_at"):
                    os.kill(os.getpid(), signal.SIGTERM)
        code = 0
    except CallAgain as again:
        code, words = again.exit_code, str(again)
    seconds = time.process_time() - begun
    said.write_text(json.dumps({"records": records, "words": words, "seconds": seconds}), encoding="utf-8")
    return code


def kill(process: int, seconds: float) -> None:
    """Once it has worked for so long, however busy the machine is."""
    watched = psutil.Process(process)
    while watched.status() != psutil.STATUS_ZOMBIE and sum(watched.cpu_times()[:2]) < seconds:
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)


def kill_at_sync(number: int) -> None:
    """This process, in place of the so manyth call."""
    sync, calls = os.fsync, []

    def counted(file: int) -> None:
        calls.append(file)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = counted
