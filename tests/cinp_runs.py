"""Pre-training runs as processes that can be killed: `python tests/cinp_runs.py FOLDER`, then one request a line.

Requests and answers are those of `gan_runs`: JSON with `folder`, and of these what is wanted: `changes` (of settings),
`ranks`, `kill_after` (seconds of CPU), `kill_at_sync` (number of the call that asks the disk to keep what was written),
`term_at` (iteration).
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch
import torch._dynamo  # the first optimiser would import it, for seconds: once here, not in every fork
from small_cinp import TRAINING
from small_pairs import halves, people, write_store
from torch import distributed

from cinp_lib.pair_store import PairStore
from cinp_lib.pretrain import fit
from study_lib.training import CallAgain, Ranks


def main(data: Path) -> None:
    """Serve requests until there are no more."""
    torch.set_num_threads(1)
    stores = halves(write_store(data, people()))
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        ranks = range(request.get("ranks", 1))
        children = [start(request, rank, stores) for rank in ranks]
        if "kill_after" in request:
            kill(children[0], request["kill_after"])
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        said = [json.loads(path.read_text()) if path.exists() else {} for path in map(folder.joinpath, names(ranks))]
        print(json.dumps({"codes": codes, "said": said}), flush=True)


def names(ranks: range) -> list[str]:
    """Where each rank leaves its words."""
    return [f"said-{rank}.json" for rank in ranks]


def start(request: dict, rank: int, stores: tuple[PairStore, PairStore]) -> int:
    """Fork one rank."""
    said = Path(request["folder"]) / names(range(rank + 1))[-1]
    said.unlink(missing_ok=True)
    if child := os.fork():
        return child
    code = 1
    try:
        code = work(request, rank, stores, said)
    finally:
        os._exit(code)


def work(request: dict, rank: int, stores: tuple[PairStore, PairStore], said: Path) -> int:
    """Train, and write down what came of it."""
    begun, folder, world = time.process_time(), Path(request["folder"]), request.get("ranks", 1)
    if "kill_at_sync" in request:
        kill_at_sync(request["kill_at_sync"])
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    if world > 1:
        distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world)
    config, records, words = replace(TRAINING, **request.get("changes", {})), [], ""
    try:
        with Ranks("cpu") as ranks:
            for record in fit(stores[0], folder, config, stores[1], ranks):
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
