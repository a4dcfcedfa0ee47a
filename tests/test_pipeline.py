"""`./run figures` on a story of three short notebooks: what runs, what does not, and how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tiny_notebooks import COMMON, begin, prose, write_curation, write_notebook
from typer.testing import CliRunner

from study_lib.__main__ import app
from study_lib.lock import Busy, only_one
from study_lib.workflow.pipeline import Request, describe, plan
from study_lib.workflow.story import STORY as OURS

STORY = """
from pathlib import Path
from study_lib.workflow.story import COHORT, Notebook, Story

STORY = Story(
    Path(__file__).parent / "note books",
    (
        Notebook("01_first", "First", "Who?", (COHORT,), {"smoke": 0.1, "demo": 3}),
        Notebook("02_second", "Second", "What?", ("01_first",), {"smoke": 0.2, "demo": 4}, all_cores=True),
        Notebook("03_third", "Third", "Why?", (), {"smoke": 0.1}),
    ),
)
"""
THIRD = "\nseconds: float = 0.0  # of nothing\ndivisor: int = 1  # of one"


def write_story(folder: Path) -> Path:
    """The story as a module, its notebooks in a folder with a blank, and a manifest."""
    (folder / "three_notebooks.py").write_text(STORY, encoding="utf-8")
    write_curation(folder)
    places = [folder / "note books" / f"{name}.ipynb" for name in ("02_second", "03_third")]
    write_notebook(
        places[0],
        begin("02_second"),
        "import json\nfirst = json.loads(run.product('01_first', 'metrics.json').read_text())",
        "import os\nthreads = int(os.environ['OMP_NUM_THREADS'])",
        "run.record({'twice': 2 * first['metrics']['subjects'], 'threads': threads}, 'phantom')",
        parameters=COMMON,
    )
    write_notebook(
        places[1],
        begin("03_third"),
        "import os, time\n(run.folder / 'begun').touch()\ntime.sleep(float(os.environ.get('PAUSE', 0)))",
        "run.record({'quotient': 1 / divisor}, 'phantom')",
        parameters=COMMON + THIRD,
    )
    return folder


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def alive(processes):
    return [process for process in processes if process.is_running() and process.status() != "zombie"]


@dataclass(frozen=True)
class Stop:
    """How a call ended that a signal stopped; all its processes have ended."""

    code: int
    text: str
    kernels: int  # that ran when the signal came
    metrics: bool  # of the unfinished notebook are there


class Project:
    """A story on disk, and `./run figures` on it as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_story(folder)
        self.root = folder / "out puts" / "smoke"

    def request(self, **changes) -> Request:
        return Request(
            **{"profile": "smoke", "manifest": str(self.folder / "cohort.csv"), "story": "three_notebooks:STORY"}
            | changes
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        command = [sys.executable, "-P", "-m", "study_lib", "figures", "--profile", "smoke", "--cores", "2"]
        command += ["--story", "three_notebooks:STORY", "--manifest", "cohort.csv", "--output-root", "out puts"]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def figures(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    def stopped_by(self, number: int) -> Stop:
        """Send a signal to all processes, as a terminal does, while the last notebook sleeps."""
        begun = self.root / "03_third" / "begun"
        begun.unlink(missing_ok=True)
        process = self.start(PAUSE="300")
        wait_until(begun.is_file)
        family = psutil.Process(process.pid).children(recursive=True)
        kernels = [member for member in family if "ipykernel_launcher" in member.cmdline()]
        os.killpg(process.pid, number)
        text, _ = process.communicate(timeout=60)
        wait_until(lambda: not alive(family), 15)
        return Stop(process.returncode, text, len(kernels), (self.root / "03_third" / "metrics.json").exists())

    def would_run(self, *arguments: str) -> set[str]:
        code, text = self.figures("--dry-run", *arguments)
        assert code == 0, text
        return {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("rule 0")}

    def metrics(self, name: str) -> dict[str, float]:
        return json.loads((self.root / name / "metrics.json").read_text(encoding="utf-8"))["metrics"]

    def notebook(self, name: str) -> Path:
        return self.folder / "note books" / f"{name}.ipynb"


@pytest.fixture(scope="module")
def first_call(tmp_path_factory):
    """A project and what the first call said, in which one notebook failed."""
    project = Project(tmp_path_factory.mktemp("a project"))
    return project, *project.figures("--set", "03.divisor=0")


@pytest.fixture(scope="module")
def stops(first_call):
    """How two calls ended that were stopped in the middle of the last notebook: Ctrl-C, then a kill."""
    project, *_ = first_call
    return [project.stopped_by(number) for number in (signal.SIGINT, signal.SIGKILL)]


@pytest.fixture(scope="module")
def last_call(first_call, stops):
    """What the call said that did what all before it had left."""
    project, *_ = first_call
    return project.figures()


@pytest.fixture
def project(first_call, last_call):
    """A project with everything up to date."""
    assert last_call[0] == 0
    return first_call[0]


def test_a_failure_leaves_the_others_and_is_told_with_its_log(first_call):
    project, code, text = first_call
    assert code == 1
    assert "FAILED: 03_third: cell In [5] raised ZeroDivisionError" in text
    assert project.metrics("01_first") == {"subjects": 2}
    assert project.metrics("02_second") == {"twice": 4, "threads": 2}, "it trains, so it may use all cores"
    log = project.root / "03_third" / "03_third.log"
    assert f"log:      {log}" in text
    assert text.rstrip().endswith(f"Report: {project.root / 'report' / 'index.html'}")
    for place in (project.root / "report" / "index.html", log.with_suffix(".ipynb")):
        assert place.is_file()


def test_ctrl_c_and_a_kill_leave_no_process_and_no_half_result(stops):
    for stop in stops:
        assert (stop.kernels, stop.metrics) == (1, False)
    assert (stops[0].code, "The same command goes on from here." in stops[0].text) == (130, True)
    assert stops[1].code == -signal.SIGKILL


def test_the_next_call_goes_on_where_the_others_stopped(last_call, first_call):
    code, text = last_call
    assert (code, "Done: ran 03_third." in text) == (0, True), text
    assert first_call[0].metrics("03_third") == {"quotient": 1.0}


def test_the_time_of_each_notebook_is_told_before_it_starts(first_call):
    _, _, text = first_call
    head = text.split("01_first: started")[0]
    assert [line.split() for line in head.splitlines()[1:4]] == [
        ["01_first", "6", "s"],
        ["02_second", "12", "s"],
        ["03_third", "6", "s"],
    ]


def run_and_save(project):
    path = project.notebook("01_first")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cells"][2] |= {"execution_count": 1, "outputs": [{"output_type": "stream", "text": "1"}]}
    content["cells"].append(prose("My notes.") | {"id": "notes"})
    path.write_text(json.dumps(content), encoding="utf-8")


def test_when_all_is_there_nothing_is_done_and_quickly(project):
    """Nor after a student ran and saved a notebook, and a cohort was made again that came out the same."""
    run_and_save(project)
    cohort = project.folder / "cohort.csv"
    cohort.write_bytes(cohort.read_bytes())
    begin = time.monotonic()
    code, text = project.figures()
    assert (code, "Nothing to do: everything is up to date." in text) == (0, True)
    assert time.monotonic() - begin < 20


def change_code(project):
    path = project.notebook("01_first")
    path.write_text(path.read_text(encoding="utf-8").replace("lines - 1", "lines - 2"), encoding="utf-8")


def change_cohort(project):
    (project.folder / "cohort.csv").write_text("subject\na\nb\nc\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "arguments", "redone"),
    [
        (change_code, [], {"01_first", "02_second"}),
        (change_cohort, ["--until", "01"], {"01_first"}),
        (None, ["--set", "03.divisor=2"], {"03_third"}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or " ".join(sorted(value)) if value else "nothing",
)
def test_a_change_redoes_exactly_what_depends_on_it(project, change, arguments, redone):
    files = [project.notebook("01_first"), project.folder / "cohort.csv"]
    before = [path.read_bytes() for path in files]
    try:
        if change:
            change(project)
        assert project.would_run(*arguments) == redone
    finally:
        for path, content in zip(files, before, strict=True):
            path.write_bytes(content)


def test_two_calls_do_not_work_in_one_folder_at_once(tmp_path):
    path = tmp_path / ".lock"
    with only_one(path), pytest.raises(Busy, match=rf"process {os.getpid()}\): wait for it"), only_one(path):
        pass
    with only_one(path):
        assert path.read_text(encoding="utf-8") == str(os.getpid())


MISTAKES = {
    "unknown parameter": ({"settings": ("03.zzz=1",)}, "unknown parameter 'zzz'; known: seed (int), seconds (float)"),
    "misspelt parameter": ({"settings": ("03.second=1",)}, "'second' (did you mean 'seconds'?)"),
    "another notebook's": ({"settings": ("01.seconds=1",)}, "--set 01: unknown parameter 'seconds'"),
    "words for a number": ({"settings": ("03.seconds=long",)}, "'seconds': expected a number; got 'long'"),
    "fraction for a whole": ({"settings": ("03.divisor=0.5",)}, "'divisor': expected a whole number; got '0.5'"),
    "no value": ({"settings": ("03.divisor=",)}, "'divisor': expected a whole number; got ''"),
    "not a number": ({"settings": ("03.seconds=nan",)}, "'seconds': expected a finite number"),
    "twice": ({"settings": ("03.divisor=1", "03.divisor=2")}, "'divisor' is set twice"),
    "no notebook": ({"settings": ("divisor=1",)}, "expected NOTEBOOK.NAME=VALUE"),
    "no equals sign": ({"settings": ("03.divisor",)}, "expected NOTEBOOK.NAME=VALUE"),
    "unknown notebook": ({"settings": ("12.divisor=1",)}, "expected one of 01, 02, 03; got '12'"),
    "one not run": ({"settings": ("03.divisor=2",), "until": "02"}, "03_third is not run, since --until stops before"),
    "profile as parameter": ({"settings": ("03.profile=demo",)}, "profile is one for all notebooks; use --profile"),
    "unknown profile": ({"profile": "dmeo"}, "expected one of smoke, demo, paper; got 'dmeo'"),
    "unknown end": ({"until": "9"}, "--until: notebook: expected one of 01, 02, 03; got '9'"),
    "no cores": ({"cores": 0}, "--cores: expected 1 or more; got 0"),
    "missing manifest": ({"manifest": "nowhere.csv"}, "--manifest: expected a CSV file; got 'nowhere.csv'"),
    "paper without data": ({"profile": "paper", "manifest": None}, "paper runs on real data: expected --manifest"),
    "unknown executor": ({"executor": "slrum"}, "--executor: expected one of local, slurm; got 'slrum'"),
}  # fmt: skip


# What the command line itself refuses: the arguments, and what the message names.
UNREADABLE = [
    (["--profil", "smoke"], ["--profil", "--profile"]),
    (["--cores", "two"], ["--cores", "valid integer"]),
    (["--until"], ["--until", "requires an argument"]),
    (["smoke"], ["unexpected extra argument", "smoke"]),
]


@pytest.mark.parametrize(("arguments", "named"), UNREADABLE, ids=[" ".join(case[0]) for case in UNREADABLE])
def test_what_cannot_be_read_is_refused_by_its_name(arguments, named):
    result = CliRunner().invoke(app, ["figures", *arguments])
    assert result.exit_code == 2
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.output).split())
    for words in named:
        assert words in text


@pytest.fixture(scope="module")
def story_on_path(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("mistakes"))
    sys.path.insert(0, str(project.folder))
    yield project
    sys.path.remove(str(project.folder))
    del sys.modules["three_notebooks"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_on_the_command_line_is_named_before_anything_runs(story_on_path, mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(message)):
        plan(story_on_path.request(**changes))


def test_all_mistakes_of_a_command_are_told_at_once_and_without_a_traceback(story_on_path):
    code, text = story_on_path.figures("--until", "9", "--set", "03.zzz", "--cores", "0")
    assert code == 2
    assert [line.split(":")[0] for line in text.splitlines()] == ["--until", "--set", "--cores"]
    assert not story_on_path.root.exists()


def test_expected_times_add_up(story_on_path):
    text = describe(plan(story_on_path.request(profile="demo")))
    assert "Profile demo: at most 7 min on 2 cores" in text
    assert "time not known" in text
    assert "built-in cohort" not in text
    assert "built-in cohort" in describe(plan(story_on_path.request(manifest=None)))
    assert describe(plan(story_on_path.request(profile="paper"))).startswith("Profile paper.\n")


def test_our_own_story_begins_with_the_built_in_cohort(tmp_path):
    command = [sys.executable, "-P", "-m", "study_lib", "figures", "--dry-run", "--profile", "smoke"]
    result = subprocess.run([*command, "--output-root", "out"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rules = [line.split()[1].rstrip(":") for line in result.stdout.splitlines() if line.startswith("rule ")]
    assert rules[0] == "cohort"
    assert {notebook.name for notebook in OURS.notebooks} < set(rules)
