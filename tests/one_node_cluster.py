"""A real SLURM on this machine, with one node, files of its own and the ports that are free; it needs root."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from waiting import free_port, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
PLACE = Path("/etc/slurm/slurm.conf")  # the plugin of the workflow engine takes SLURM_CONF away from its jobs
OURS = "# Written by a test, which takes it away again."
CONFIGURATION = """{ours}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,requeue_delay=1
ReturnToService=2
KillWait=20
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """What is missing here, or an empty text."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"no SLURM: {', '.join(absent)} not found; apt-get install slurmctld slurmd slurm-client munge"
    if PLACE.is_file() and OURS not in PLACE.read_text(encoding="utf-8"):
        return f"{PLACE} is there: this machine has a SLURM of its own, which tests leave alone"
    return "" if os.geteuid() == 0 else "SLURM's daemons run jobs for others, so this needs root"


class Cluster:
    """Started by making it; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        ports = {name: free_port() for name in ("controller", "node")}
        text = CONFIGURATION.format(ours=OURS, host=self.host, folder=folder, **ports)
        PLACE.parent.mkdir(exist_ok=True)
        PLACE.write_text(text, encoding="utf-8")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
        places = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
        munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *places]
        self._daemons = [self._daemon(munged)]
        wait_for(lambda: (folder / "munge.socket").exists(), 60, "munged did not start")
        self._daemons += [self._daemon(["slurmctld", "-D"]), self._daemon(["slurmd", "-D", "-N", self.host])]
        wait_for(lambda: self.state() == "idle", 120, "the node did not come up")

    def _daemon(self, command: list[str]) -> subprocess.Popen:
        with open(self.folder / f"{command[0]}.out", "w", encoding="utf-8") as out:
            return subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, start_new_session=True)

    def run(self, *command: str) -> str:
        """One of SLURM's commands; its output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def state(self) -> str:
        """The node's: idle, mixed, draining, drained, ..."""
        return self.run("sinfo", "--noheader", "--format=%T").rstrip("*")

    def jobs(self) -> dict[str, str]:
        """States of the jobs that wait or work, by id."""
        lines = self.run("squeue", "--noheader", "--format=%A %T").splitlines()
        return dict(line.split() for line in lines)

    def drain(self) -> None:
        """The node takes no new job."""
        self.run("scontrol", "update", f"nodename={self.host}", "state=drain", "reason=test")

    def resume(self) -> None:
        """The node works again."""
        self.run("scontrol", "update", f"nodename={self.host}", "state=resume")

    def stop(self) -> None:
        """End all jobs and daemons."""
        for job in self.jobs():
            self.run("scancel", job)
        wait_for(lambda: not self.jobs(), 60, "jobs do not end")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(30)
        PLACE.unlink()
