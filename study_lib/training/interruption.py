"""The wish to stop, as clusters and people send it, turned into a question that the loop asks between steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

CALL_AGAIN = 75  # sysexits.h EX_TEMPFAIL: not finished, start the same command again


class CallAgain(Exception):
    """Training was stopped between two steps and has saved; a command line turns it into exit code `CALL_AGAIN`."""

    exit_code = CALL_AGAIN

    def __init__(self, step: int, reason: str = "") -> None:
        super().__init__(step, reason)
        self.step, self.reason = step, reason

    def __str__(self) -> str:
        because = f" by {self.reason}" if self.reason else ""
        return f"stopped{because} after step {self.step}; all is saved: start the same command again to go on"


class Interruption:
    """While the block runs, SIGTERM and SIGUSR1 only set `requested`; afterwards the handlers before are back.

    SLURM: `#SBATCH --signal=USR1@120` gives two minutes to save, `--requeue` with exit code 75 calls again.
    `ctrl_c=True` treats the first Ctrl-C the same way; the second ends at once.
    Python allows signal handlers in the main thread only: in any other nothing is installed (`listening` is False),
    and the process reacts to signals as before.
    """

    def __init__(self, ctrl_c: bool = False) -> None:
        self.requested = False
        self.reason = ""
        self.listening = False
        self._numbers = [signal.SIGTERM, signal.SIGUSR1, *([signal.SIGINT] if ctrl_c else [])]
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._numbers}
            self.listening = True
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
        self._before = {}
        self.listening = False

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker has inherited this handler, and has to die as workers do
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number == signal.SIGINT and self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.reason = signal.Signals(number).name
