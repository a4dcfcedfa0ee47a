"""`./run figures`: check what is asked, say what it takes, run the workflow, say how it ended."""

import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_lib.files import atomic_write_json
from study_lib.lock import only_one
from study_lib.profiles import check_profile
from study_lib.provenance import REPOSITORY, available_cores
from study_lib.workflow import slurm
from study_lib.workflow.parameters import (
    ParameterError,
    Setting,
    Value,
    declared_parameters,
    parse_setting,
    settings_of,
)
from study_lib.workflow.report import RUNNING, build_report, read_chapter
from study_lib.workflow.story import COHORT, COHORT_MINUTES, Notebook, Story, load_story
from study_lib.workflow.subprocesses import INTERRUPTED, wait_or_stop

WORKFLOW = REPOSITORY / "workflow"
ENGINE_LOG = "snakemake.log"
RESERVED = {"profile": "--profile", "manifest": "--manifest", "output_root": "--output-root"}


@dataclass(frozen=True)
class Request:
    """What was typed, as text."""

    profile: str = "demo"
    until: str | None = None
    cores: int | None = None
    settings: tuple[str, ...] = ()
    manifest: str | None = None
    output_root: str | None = None
    executor: str = "local"
    dry_run: bool = False
    story: str = "study_lib.workflow.story:STORY"
    seeds: int | None = None


@dataclass(frozen=True)
class Plan:
    """A request that was found to make sense."""

    request: Request
    story: Story
    notebooks: tuple[Notebook, ...]
    settings: dict[str, dict[str, Value]]
    manifest: str
    root: Path  # outputs/<profile>
    cores: int


def plan(request: Request) -> Plan:
    """Check everything before anything runs; all mistakes are told at once, in a ValueError."""
    problems: list[str] = []

    def checked(check: Any, *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except ValueError as error:
            problems.append(str(error))
            return None

    story = load_story(request.story)
    profile = checked(check_profile, request.profile) or "demo"
    notebooks = checked(_until, story, request.until) or story.notebooks
    texts = (*request.settings, *(checked(_seeds, request.seeds, notebooks) or ()))
    settings = checked(_settings, texts, story, notebooks) or {}
    manifest = checked(_manifest, request.manifest, profile, notebooks) or ""
    cores = checked(_cores, request.cores)
    checked(_executor, request.executor, request.dry_run)
    if problems:
        raise ValueError("\n".join(problems))
    outputs = Path(request.output_root).expanduser() if request.output_root else REPOSITORY / "outputs"
    return Plan(request, story, notebooks, settings, manifest, outputs.resolve() / profile, cores)


def _until(story: Story, until: str | None) -> tuple[Notebook, ...]:
    try:
        return story.until(until)
    except ValueError as error:
        raise ValueError(f"--until: {error}") from error


def _seeds(seeds: int | None, notebooks: tuple[Notebook, ...]) -> tuple[str, ...]:
    """`--seeds 3` is a setting of every notebook that compares models of several seeds."""
    if seeds is None:
        return ()
    if seeds < 1:
        raise ValueError(f"--seeds: expected 1 or more; got {seeds}")
    return tuple(f"{notebook.number}.n_seeds={seeds}" for notebook in notebooks if notebook.grid)


def _settings(texts: tuple[str, ...], story: Story, running: tuple[Notebook, ...]) -> dict[str, dict[str, Value]]:
    """Parameters by notebook name; every mistake in one message."""
    grouped: dict[Notebook, list[Setting]] = defaultdict(list)
    values, problems = {}, []
    for text in texts:
        try:
            setting = parse_setting(text)
            grouped[_settable(story, setting, running)].append(setting)
        except ValueError as error:
            problems.append(str(error))
    for notebook, settings in grouped.items():
        try:
            known = declared_parameters(story.path(notebook))
            open_to_set = {name: parameter for name, parameter in known.items() if name not in RESERVED}
            values[notebook.name] = settings_of(open_to_set, settings, f"--set {notebook.number}")
        except ParameterError as error:
            problems.append(str(error))
    if problems:
        raise ParameterError("\n".join(problems))
    return values


def _settable(story: Story, setting: Setting, running: tuple[Notebook, ...]) -> Notebook:
    text = f"--set {setting.notebook}.{setting.name}={setting.text}"
    try:
        notebook = story.numbered(setting.notebook)
    except ValueError as error:
        raise ParameterError(f"{text}: {error}") from error
    if notebook not in running:
        raise ParameterError(f"{text}: {notebook.name} is not run, since --until stops before it")
    if setting.name in RESERVED:
        raise ParameterError(f"{text}: {setting.name} is one for all notebooks; use {RESERVED[setting.name]}")
    return notebook


def _manifest(manifest: str | None, profile: str, notebooks: tuple[Notebook, ...]) -> str:
    if not manifest:
        if profile == "paper" and any(COHORT in notebook.needs for notebook in notebooks):
            raise ValueError(
                "--profile paper runs on real data: expected --manifest FILE (see data_manifests/README.md)"
            )
        return ""
    path = Path(manifest).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"--manifest: expected a CSV file; got {manifest!r}, where there is none")
    return str(path)


def _cores(cores: int | None) -> int:
    if cores is not None and cores < 1:
        raise ValueError(f"--cores: expected 1 or more; got {cores}")
    return cores or available_cores()


def _executor(executor: str, dry_run: bool) -> None:
    known = sorted(path.name for path in (WORKFLOW / "profiles").iterdir())
    if executor not in known:
        raise ValueError(f"--executor: expected one of {', '.join(known)}; got {executor!r}")
    if executor == "slurm" and not dry_run and shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: expected the command sbatch, as on a cluster's login node; there is none")


def describe(plan: Plan) -> str:
    """What will be run, and how long each takes if it must be."""
    profile = plan.request.profile
    rows = [(notebook.name, notebook.minutes.get(profile)) for notebook in plan.notebooks]
    if not plan.manifest and any(COHORT in notebook.needs for notebook in plan.notebooks):
        rows.insert(0, ("built-in cohort", COHORT_MINUTES.get(profile)))
    known = [minutes for _, minutes in rows if minutes is not None]
    total = f": at most {_minutes(sum(known)).strip()} on 2 cores, less what is up to date" if known else ""
    lines = [f"  {name:<28} {_minutes(minutes)}" for name, minutes in rows]
    report = plan.root / "report" / "index.html"
    return "\n".join([f"Profile {profile}{total}.", *lines, f"The report grows at {report}"])


def _minutes(minutes: float | None) -> str:
    if minutes is None:
        return "    time not known"
    return f"{60 * minutes:5.0f} s" if minutes < 2 else f"{minutes:5.0f} min"


def run(plan: Plan) -> int:
    """Run the workflow; the exit code is 0, that of the first notebook that failed, or 130 for Ctrl-C."""
    print(describe(plan), flush=True)
    if plan.request.dry_run:
        return wait_or_stop(subprocess.Popen(_command(plan), cwd=plan.root))
    with only_one(plan.root / ".lock") as lock:
        before = _records(plan)
        _forget_running(plan)  # of a run that was killed
        code = _run_engine(plan, lock)
        _forget_running(plan)
        report = build_report(plan.story, plan.root)
    ran = [name for name, written in _records(plan).items() if written != before[name] and written]
    return _summary(plan, code, ran, report)


def _forget_running(plan: Plan) -> None:
    for notebook in plan.story.notebooks:
        (plan.root / notebook.name / RUNNING).unlink(missing_ok=True)


def _run_engine(plan: Plan, lock: int) -> int:
    """Snakemake tells its story to a file; at the terminal its jobs speak.

    It holds the lock too: killing this process alone must not let a second run in.
    """
    remote = plan.request.executor == "slurm"
    jobs = slurm.jobs_in(plan.root) if remote else []
    if jobs:
        told = " ".join(jobs)
        raise ValueError(f"{plan.root}: jobs of an earlier call work here: wait for them, or end them: scancel {told}")
    with open(plan.root / ENGINE_LOG, "w", encoding="utf-8") as log:
        code = wait_or_stop(subprocess.Popen(_command(plan), cwd=plan.root, stderr=log, pass_fds=[lock]))
    if remote and code:
        slurm.cancel(slurm.jobs_in(plan.root))
    return code


def _command(plan: Plan) -> list[str]:
    """Snakemake's command line; what the Snakefile is to know goes through a file, which keeps types."""
    config = {
        "profile": plan.request.profile,
        "output_root": str(plan.root.parent),
        "story": plan.request.story,
        "cores": plan.cores,
        "executor": plan.request.executor,
        "manifest": plan.manifest,
        "until": plan.notebooks[-1].name,
        "settings": plan.settings,
    }
    path = plan.root / (".dry-run.json" if plan.request.dry_run else ".request.json")
    atomic_write_json(path, config)
    snakefile, profile = WORKFLOW / "Snakefile", WORKFLOW / "profiles" / plan.request.executor
    command = [sys.executable, "-P", "-m", "study_lib.workflow.engine", "--snakefile", str(snakefile)]
    command += ["--workflow-profile", str(profile), "--configfile", str(path)]
    if plan.request.executor == "local":
        command += ["--cores", str(plan.cores)]
    return command + (["--dry-run", "--quiet", "host"] if plan.request.dry_run else [])


def _records(plan: Plan) -> dict[str, int]:
    """When each notebook's metrics were written; 0 where there are none."""
    paths = {notebook.name: plan.root / notebook.name / "metrics.json" for notebook in plan.notebooks}
    return {name: path.stat().st_mtime_ns if path.is_file() else 0 for name, path in paths.items()}


def _summary(plan: Plan, code: int, ran: list[str], report: Path) -> int:
    """Say what ran, what failed and where its log is; gives the exit code."""
    chapters = [read_chapter(plan.root / notebook.name, notebook) for notebook in plan.notebooks]
    failed = [chapter for chapter in chapters if chapter.failure and code]
    if code == INTERRUPTED:
        print("\nStopped. The same command goes on from here.")
    elif code == 0:
        print(f"\nDone: ran {', '.join(ran)}." if ran else "\nNothing to do: everything is up to date.")
    for chapter in failed:
        log = chapter.folder / chapter.failure["log"]
        print(f"\nFAILED: {chapter.notebook.name}: {chapter.failure['error'].splitlines()[0]}")
        print(f"  log:      {log}")
        if log.with_suffix(".ipynb").is_file():  # a job of a grid has none
            print(f"  notebook: {log.with_suffix('.ipynb')}")
    if code not in (0, INTERRUPTED) and not failed:
        log = plan.root / ENGINE_LOG
        last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-20:]
        print("\n".join(["\nFAILED:", *last, f"  log:      {log}"]))
    missing = [chapter.notebook.name for chapter in chapters if chapter.state == "not run"]
    if code and missing:
        print(f"\nNot finished: {', '.join(missing)}.")
    print(f"Report: {report}", flush=True)
    return failed[0].failure["exit_code"] if failed and code != INTERRUPTED else code
