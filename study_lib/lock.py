"""A lock that ends with the processes that hold it, however they end."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

PATIENCE_SECONDS = 20


class Busy(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def only_one(path: str | Path) -> Iterator[int]:
    """Hold `path` as a lock; gives its file descriptor, so that a child process can hold it too."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _take(file, path)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _take(file: TextIO, path: Path) -> None:
    """Take the lock; wait a little for children of a holder that was killed, which end by themselves."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            if (holder.isdigit() and psutil.pid_exists(int(holder))) or time.monotonic() > deadline:
                raise Busy(
                    f"another run works in {path.parent} (process {holder or 'unknown'}): "
                    "wait for it, or stop it with Ctrl-C"
                ) from error
            time.sleep(0.2)
