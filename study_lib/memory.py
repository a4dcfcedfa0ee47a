"""The peak memory of this process and everything it started."""

import re
import resource
import sys
import threading
from pathlib import Path

import psutil

MIB = 2**20


class PeakMemory:
    """Samples resident memory in a background thread until `stop`.

    Pages that forked children share are counted once for each, so the sum errs on the high side.
    """

    def __init__(self, interval_seconds: float = 2.0) -> None:
        self._interval = interval_seconds
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mib(self) -> float:
        """The peak so far, in MiB; the process's own short peaks are known from the operating system."""
        self._sample()
        return round(max(self._peak, _own_peak()) / MIB, 1)

    def stop(self) -> None:
        """End the sampling."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        me = psutil.Process()
        processes = [me, *me.children(recursive=True)]
        self._peak = max(self._peak, sum(map(_resident, processes)))


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it ended meanwhile
        return 0


def _own_peak() -> int:
    """Linux's VmHWM, since its ru_maxrss also holds the peak of whoever started the process."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB
