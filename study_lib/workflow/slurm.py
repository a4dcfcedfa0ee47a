"""SLURM seen from both ends: from the login node, which jobs of ours are at work; from inside a job, its time limit."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study_lib.workflow.subprocesses import descendants

MOST_RESTARTS = 50


def jobs_in(folder: Path) -> list[str]:
    """Ids of this user's jobs that wait or work in a folder."""
    told = _output("squeue", "--noheader", "--me", "--format", "%A %Z")
    pairs = [line.strip().partition(" ") for line in told.splitlines()]
    return sorted({job for job, _, place in pairs if Path(place) == folder})


def cancel(jobs: list[str]) -> None:
    """End these jobs."""
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError as error:
        raise ValueError(f"--executor slurm: expected the command `{command[0]}`; this machine has none") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"--executor slurm: `{command[0]}` does not answer: {error}") from error


class TimeLimit:
    """Inside a job: SLURM's SIGTERM, which comes before the limit, reaches the kernel, which saves and stops."""

    def __init__(self) -> None:
        self.reached = False

    def _pass_on(self, *_: Any) -> None:
        self.reached = True
        for child in descendants(os.getpid()):
            child.send_signal(signal.SIGTERM)

    @contextmanager
    def watched(self) -> Iterator["TimeLimit"]:
        """While the block runs, where this is a job of SLURM."""
        if "SLURM_JOB_ID" not in os.environ:
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._pass_on)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)


def requeue() -> bool:
    """Send this job back into the queue, unless it has been there too often; says whether it goes."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    told = subprocess.run(["scontrol", "show", "job", job], check=False, capture_output=True, text=True).stdout
    restarts = re.search(r"Restarts=(\d+)", told)
    if restarts is None or int(restarts.group(1)) >= MOST_RESTARTS:
        return False
    return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
