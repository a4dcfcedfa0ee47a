"""`./run figures --executor slurm` on a real SLURM of one node: a failure, a drained node, a time limit, the end.

One module-wide run tells the whole story, some minutes long; the tests ask what came of each part.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from one_node_cluster import Cluster, why_not
from tiny_notebooks import COMMON, begin, write_curation, write_notebook
from waiting import wait_for

from study_lib.provenance import REPOSITORY
from study_lib.training.interruption import CALL_AGAIN
from study_lib.workflow import notebook
from study_lib.workflow.resources import PAPER, Resources, resources_of
from study_lib.workflow.slurm import MOST_RESTARTS, requeue
from study_lib.workflow.story import STORY as OURS

STORY = """
from pathlib import Path
from study_lib.workflow.story import COHORT, Notebook, Story

STORY = Story(
    Path(__file__).parent / "note books",
    (
        Notebook("01_first", "First", "Who?", (COHORT,)),
        Notebook("02_training", "Training", "What?", ("01_first",), all_cores=True),
        Notebook("03_third", "Third", "Why?", ()),
    ),
)
"""
STEPS = 200
TRAINING = f"""
import json, os, time
from study_lib.training.interruption import CallAgain, Interruption
state = run.folder / "state.json"
sums = json.loads(state.read_text()) if state.exists() else []
begun = len(sums)
with Interruption() as wish:
    for step in range(begun, {STEPS}):
        time.sleep(0.5 if "SLURM_JOB_ID" in os.environ else 0)  # long enough to be stopped
        sums.append(sum(sums) * 1e-3 + 1 / (step + first["metrics"]["subjects"]))
        state.write_text(json.dumps(sums))
        if wish.requested:
            raise CallAgain(step + 1, wish.reason)
with open(run.folder / "begun.txt", "a") as file:
    file.write(f"{{begun}}\\n")
"""


def write_story(folder: Path) -> Path:
    """Curation, a training that can be stopped, and a notebook that fails when told to."""
    (folder / "cluster_story.py").write_text(STORY, encoding="utf-8")
    write_curation(folder)
    places = [folder / "note books" / f"{name}.ipynb" for name in ("02_training", "03_third")]
    write_notebook(
        places[0],
        begin("02_training"),
        "import json\nfirst = json.loads(run.product('01_first', 'metrics.json').read_text())",
        TRAINING,
        "run.record({'last': sums[-1], 'steps': len(sums)}, 'phantom')",
        parameters=COMMON,
    )
    write_notebook(
        places[1],
        begin("03_third"),
        "run.record({'quotient': 1 / divisor}, 'phantom')",
        parameters=COMMON + "\ndivisor: int = 3  # of one",
    )
    return folder


class Project:
    """A story on disk, run here or on the cluster."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = write_story(folder), environment | {"PYTHONPATH": str(folder)}

    def start(self, executor: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-P", "-m", "study_lib", "figures", "--profile", "smoke", "--executor", executor]
        command += ["--story", "cluster_story:STORY", "--manifest", "cohort.csv", "--output-root", executor]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def figures(self, executor: str, *arguments: str) -> tuple[int, str]:
        process = self.start(executor, *arguments)
        text, _ = process.communicate(timeout=900)
        return process.returncode, text

    def file(self, executor: str, *names: str) -> Path:
        return self.folder.joinpath(executor, "smoke", *names)

    def metrics(self, executor: str) -> dict[str, bytes]:
        names = ("01_first", "02_training", "03_third")
        return {name: self.file(executor, name, "metrics.json").read_bytes() for name in names}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    return Project(tmp_path_factory.mktemp("project"), cluster.environment)


@pytest.fixture(scope="module")
def failed(project):
    """A call in which one notebook fails on purpose."""
    return project.figures("slurm", "--until", "03", "--set", "03.divisor=0")


@pytest.fixture(scope="module")
def story(failed, cluster, project):
    """All of it again, with Ctrl-C, a time limit and a drained node in its middle; what was seen on the way."""
    project.file("slurm", "02_training", "metrics.json").unlink()
    state = project.file("slurm", "02_training", "state.json")
    state.unlink()
    seen = {}
    process = project.start("slurm")
    wait_for(lambda: state.is_file() and len(json.loads(state.read_text() or "[]")) > 3, 300, "no training")
    seen["busy"] = project.figures("slurm")
    os.killpg(process.pid, signal.SIGINT)
    seen["stopped"] = (process.communicate(timeout=120)[0], process.returncode)
    wait_for(lambda: not cluster.jobs(), 60, "jobs after Ctrl-C")
    process, before = project.start("slurm"), len(json.loads(state.read_text()))
    wait_for(lambda: len(json.loads(state.read_text() or "[]")) > before + 3, 300, "no second training")
    wait_for(lambda: len(cluster.jobs()) == 1, 300, "the other notebook does not end")
    cluster.drain()
    seen["draining"] = cluster.state()
    (job,) = cluster.jobs()
    cluster.run("scancel", "--signal=TERM", job)  # as SLURM does itself before the time limit
    wait_for(lambda: cluster.jobs().get(job) == "PENDING", 120, "the job does not go back into the queue")
    seen["waiting"] = len(json.loads(state.read_text()))
    seen["metrics while waiting"] = project.file("slurm", "02_training", "metrics.json").exists()
    cluster.resume()
    seen["text"], _ = process.communicate(timeout=900)
    return seen | {"code": process.returncode, "job": job, "before": before}


@pytest.mark.slow
def test_a_job_that_fails_leaves_the_others_and_is_told_with_its_log(failed, project):
    code, text = failed
    assert code == 1
    assert "FAILED: 03_third: cell In [4] raised ZeroDivisionError" in text
    assert "log:" in text
    for name in ("01_first", "02_training"):
        assert project.file("slurm", name, "metrics.json").parent.is_dir()
    assert not project.file("slurm", "03_third", "metrics.json").exists()


@pytest.mark.slow
def test_ctrl_c_takes_the_jobs_off_the_cluster(story):
    text, code = story["stopped"]
    assert code == 130
    assert "The same command goes on from here." in text


@pytest.mark.slow
def test_a_second_call_does_not_join_in_while_the_first_is_at_work(story):
    code, text = story["busy"]
    assert (code, "wait for it" in text) == (2, True)


@pytest.mark.slow
def test_a_training_stopped_by_its_time_limit_saves_waits_in_the_queue_and_goes_on_from_there(story, project):
    assert story["draining"] in ("draining", "drained")
    assert not story["metrics while waiting"]
    assert STEPS > story["waiting"] > story["before"]
    begun = [int(line) for line in project.file("slurm", "02_training", "begun.txt").read_text().split()]
    assert begun[-1] == story["waiting"]


@pytest.mark.slow
def test_in_the_end_the_metrics_are_those_of_the_local_run_to_the_last_digit(story, project):
    assert story["code"] == 0, story["text"]
    code, text = project.figures("local")
    assert code == 0, text
    assert project.metrics("slurm") == project.metrics("local")
    code, text = project.figures("slurm")
    assert (code, "Nothing to do: everything is up to date." in text) == (0, True), text


def test_a_machine_without_slurm_says_so_but_still_tells_what_would_run(tmp_path):
    names = tmp_path / "bin"
    names.mkdir()
    for name in ("bash", "git", "sh", "uname", "which"):
        (names / name).symlink_to(shutil.which(name))
    project = Project(tmp_path, os.environ | {"PATH": str(names)})
    code, text = project.figures("slurm")
    assert (code, "--executor slurm: expected the command sbatch" in text) == (2, True), text
    code, text = project.figures("slurm", "--dry-run")
    assert code == 0, text
    assert "rule 01_first" in text
    assert "mem_mb=8000" in text
    assert "runtime=120" in text


def test_every_notebook_states_what_it_asks_of_a_cluster_and_the_phantom_asks_for_no_graphics_card():
    assert {told.name for told in OURS.notebooks} <= set(PAPER)
    for told in OURS.notebooks:
        assert resources_of(told, "demo").gpus == 0
        asked = resources_of(told, "paper").for_snakemake()
        assert asked["mem_mb"] >= 16_000
        assert asked["runtime"] <= 48 * 60
    assert Resources(gpus=2).for_snakemake() == {"mem_mb": 8000, "runtime": 120, "gpu": 2}
    assert "gpu" not in Resources().for_snakemake()


def test_the_profile_warns_a_job_two_minutes_before_its_limit_and_has_no_arrays():
    path = REPOSITORY / "workflow" / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert "slurm_extra=\"'--signal=TERM@120'\"" in profile["default-resources"]
    assert "slurm-array-jobs" not in profile


def test_call_again_is_one_number_everywhere():
    assert notebook.CALL_AGAIN == CALL_AGAIN


STAND_IN = """#!/bin/sh
echo "$*" >> "$NOTES"
case "$1" in show) echo "JobId=7 Requeue=1 Restarts=$RESTARTS BatchFlag=1" ;; esac
"""


@pytest.mark.parametrize(("job", "restarts", "goes"), [(None, 0, False), ("7", 3, True), ("7", MOST_RESTARTS, False)])
def test_a_job_goes_back_into_the_queue_inside_of_slurm_and_not_for_ever(monkeypatch, tmp_path, job, restarts, goes):
    (tmp_path / "scontrol").write_text(STAND_IN, encoding="utf-8")
    (tmp_path / "scontrol").chmod(0o755)
    notes = tmp_path / "notes"
    notes.touch()
    for name, value in {"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": notes, "RESTARTS": restarts}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    assert requeue() == goes
    assert ("requeue 7" in notes.read_text(encoding="utf-8").splitlines()) == goes
