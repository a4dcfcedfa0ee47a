"""Wait for a process, and take it and all that it started down on Ctrl-C."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

INTERRUPTED = 130
PATIENCE_SECONDS = 30


def wait_or_stop(process: subprocess.Popen) -> int:
    """The exit code of `process`; 130 when SIGINT, SIGTERM or SIGHUP came first."""
    with signals_interrupt():
        try:
            return process.wait()
        except KeyboardInterrupt:
            _stop(process)
            return INTERRUPTED


def stop_with_parent() -> None:
    """End this process and its children soon after its parent has ended, however it did."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        _terminate(descendants(os.getpid()))

    threading.Thread(target=watch, daemon=True).start()


def _stop(process: subprocess.Popen) -> None:
    """Ask politely, wait, then kill what is left.

    At a terminal Ctrl-C reaches everyone of the process group; a signal to this process alone must be passed
    on. SIGTERM tells the workflow engine to begin nothing new. Kernels have groups of their own: their jobs
    end them.
    """
    family = descendants(process.pid)
    process.terminate()
    _terminate(family)
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        _quietly(child.kill)


def descendants(pid: int) -> list[psutil.Process]:
    """All that a process has started, and what these have."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _terminate(family: list[psutil.Process]) -> None:
    for child in family:
        if _group(child) == os.getpgid(0):
            _quietly(child.terminate)


def _group(child: psutil.Process) -> int:
    try:
        return os.getpgid(child.pid)
    except ProcessLookupError:
        return -1


def _quietly(action: Any) -> None:
    with suppress(psutil.Error):  # it ended meanwhile
        action()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, the first of them only: then comes cleaning up.

    This holds also where a shell started us with SIGINT ignored; under nohup SIGHUP stays ignored.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def interrupt(*_: Any) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
