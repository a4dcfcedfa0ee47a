"""Stopping a process takes down what it started, however the wish to stop arrives."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# Waits for a child that waits for a grandchild, and says when all are there.
FRONT = """
import subprocess, sys
from study_lib.workflow.subprocesses import wait_or_stop
child = "import subprocess; p = subprocess.Popen(['sleep', '60']); print('all there', flush=True); p.wait()"
sys.exit(wait_or_stop(subprocess.Popen([sys.executable, "-c", child])))
"""
# Starts a process that is to end with it, and says when that is there.
PARENT = """
import subprocess, sys, time
child = "import time; from study_lib.workflow.subprocesses import stop_with_parent as s; s(); "
child += "print('all there', flush=True)"
subprocess.Popen([sys.executable, "-c", child + "; time.sleep(60)"])
time.sleep(60)
"""


def start(script):
    """The process and its family, when the last of them has spoken."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "all there\n"
    return process, psutil.Process(process.pid).children(recursive=True)


def gone(family, seconds):
    deadline = time.monotonic() + seconds
    while any(member.is_running() and member.status() != "zombie" for member in family):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_front_process_alone_stops_the_whole_family(number):
    process, family = start(FRONT)
    assert len(family) == 2
    os.kill(process.pid, number)
    assert process.wait(timeout=20) == 130
    assert gone(family, 1)


def test_a_child_that_asked_for_it_ends_when_its_parent_was_killed():
    process, family = start(PARENT)
    assert len(family) == 1
    process.kill()
    process.wait(timeout=20)
    assert gone(family, 5)
