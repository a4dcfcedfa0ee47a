"""A wish to stop is heard between steps, and the process ends with the code that says "call me again"."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from study_lib.training.interruption import CALL_AGAIN, CallAgain, Interruption

# Works in steps until it is asked to stop, writes what a checkpoint would be, and ends as a command line does.
LOOP = """
import pathlib, sys, time
from study_lib.training import CallAgain, Interruption
assert "torch" not in sys.modules
def train():
    with Interruption(ctrl_c=True) as interruption:
        print("ready", flush=True)
        for step in range(10_000):
            time.sleep(0.01)
            if interruption.requested:
                pathlib.Path(sys.argv[1]).write_text("saved")
                raise CallAgain(step + 1, interruption.reason)
try:
    train()
except CallAgain as stopped:
    print(stopped, flush=True)
    sys.exit(stopped.exit_code)
"""
# Never looks at the request.
DEAF = """
import time
from study_lib.training import Interruption
with Interruption(ctrl_c=True):
    print("ready", flush=True)
    time.sleep(60)
"""


def start(script, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_loop_that_is_asked_to_stop_saves_and_says_call_me_again(tmp_path, number):
    process = start(LOOP, tmp_path / "state")
    process.send_signal(number)
    words, errors = process.communicate(timeout=30)
    assert process.returncode == CALL_AGAIN == os.EX_TEMPFAIL, errors
    assert (tmp_path / "state").read_text() == "saved"
    assert f"by {number.name} after step" in words and "start the same command again" in words


def test_a_second_ctrl_c_ends_at_once():
    process = start(DEAF)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode not in (0, CALL_AGAIN)
    assert "KeyboardInterrupt" in errors


def test_the_handlers_before_are_back_afterwards_also_after_an_error():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ZeroDivisionError), Interruption(ctrl_c=True) as interruption:
        assert interruption.listening
        assert all(signal.getsignal(number) not in before for number in numbers)
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in numbers] == before
    assert not interruption.listening


def test_ctrl_c_is_left_alone_unless_asked_for():
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is before


def test_the_request_is_kept_with_its_reason():
    with Interruption() as interruption:
        assert (interruption.requested, interruption.reason) == (False, "")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (interruption.requested, interruption.reason) == (True, "SIGUSR1")
    assert interruption.requested


def test_in_another_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append((interruption.listening, interruption.requested, signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [(False, False, True)]


def test_a_forked_worker_still_dies_of_sigterm():
    with Interruption() as interruption:
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert not interruption.requested


def test_the_exception_survives_a_process_boundary():
    back = pickle.loads(pickle.dumps(CallAgain(12, "SIGTERM")))
    assert (back.step, back.reason, str(back)) == (12, "SIGTERM", str(CallAgain(12, "SIGTERM")))
