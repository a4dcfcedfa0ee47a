"""One notebook of the story as one job of the workflow: `python -m study_lib.workflow.job 01_data_curation …`."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from study_lib.files import atomic_write_json, atomic_write_text
from study_lib.profiles import check_profile
from study_lib.workflow.notebook import CALL_AGAIN, NotebookFailure, notebook_html, run_notebook
from study_lib.workflow.parameters import ParameterError
from study_lib.workflow.report import RUNNING, build_report
from study_lib.workflow.slurm import TimeLimit, requeue
from study_lib.workflow.story import Notebook, Story, load_story
from study_lib.workflow.subprocesses import INTERRUPTED, signals_interrupt, stop_with_parent

BAD_PARAMETER = 2
ECHO_SECONDS = 20


def run_job(story: Story, notebook: Notebook, profile: str, parameters: dict[str, Any], root: Path) -> int:
    """Run the notebook into its folder and bring the report up to date; gives the exit code."""
    folder = root / profile / notebook.name
    executed = folder / f"{notebook.name}.ipynb"
    begin = time.monotonic()
    _say(f"{notebook.name}: started{_expectation(notebook, profile)}")
    with _marked(folder / RUNNING):
        build_report(story, root / profile)
        code = _keeping_failure(
            folder / "failure.json",
            lambda: run_notebook(
                story.path(notebook),
                executed,
                parameters,
                timeout=notebook.cell_timeout(profile),
                products=[folder / "metrics.json", folder / "run.json"],
            ),
        )
    if executed.is_file():
        page = root / profile / "report" / notebook.name / f"{notebook.name}.html"
        atomic_write_text(page, notebook_html(executed))
    build_report(story, root / profile)
    _say(f"{notebook.name}: {'FAILED' if code else 'done'} after {_minutes(time.monotonic() - begin)}")
    return code


@contextmanager
def _marked(path: Path) -> Iterator[None]:
    """While the block runs, a file says since when."""
    atomic_write_json(path, {"begun": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _keeping_failure(path: Path, action: Callable[[], None]) -> int:
    """Do it; where it fails, write how into `path`, and give its exit code."""
    path.unlink(missing_ok=True)
    try:
        action()
    except (NotebookFailure, ParameterError, FileNotFoundError) as error:
        code = getattr(error, "exit_code", BAD_PARAMETER)
        atomic_write_json(path, {"error": str(error), "exit_code": code, "log": f"{path.parent.name}.log"})
        _say(f"{path.parent.name}: {str(error).splitlines()[0]}")
        return code
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _expectation(notebook: Notebook, profile: str) -> str:
    minutes = notebook.minutes.get(profile)
    return "" if minutes is None else f", expected to take {_minutes(60 * minutes)}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _called_again(notebook: Notebook, folder: Path) -> int:
    """What a time limit has stopped goes on later: by itself where SLURM takes it back, else when called again."""
    if requeue():
        (folder / "failure.json").unlink(missing_ok=True)
        _say(f"{notebook.name}: stopped before its time limit; it waits in the queue and goes on")
    return CALL_AGAIN


class Echo(logging.Handler):
    """Shows the last line a cell printed, now and then, to whoever waits at the terminal."""

    def __init__(self, label: str) -> None:
        super().__init__(logging.INFO)
        self._label, self._next = label, time.monotonic() + ECHO_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's last line unless the previous one is recent."""
        lines = record.getMessage().replace("\r", "\n").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if line and time.monotonic() >= self._next and not line.startswith(("Executing Cell", "Ending Cell")):
            _say(f"  {self._label}: {line[:160]}")
            self._next = time.monotonic() + ECHO_SECONDS


def main(
    name: str,
    profile: Annotated[str, typer.Option()],
    output_root: Annotated[Path, typer.Option()],
    parameters: Annotated[str, typer.Option(help="a JSON object")] = "{}",
    story: Annotated[str, typer.Option(help="module:name")] = "study_lib.workflow.story:STORY",
) -> None:
    """Run one notebook of the story headless."""
    stop_with_parent()  # two runs must not write into one folder
    told = load_story(story)
    notebook = told.numbered(name)
    logging.getLogger("papermill").addHandler(Echo(notebook.name))
    limit = TimeLimit()
    try:
        with signals_interrupt(), limit.watched():
            code = run_job(told, notebook, check_profile(profile), json.loads(parameters), output_root.resolve())
    except KeyboardInterrupt:
        _say(f"{notebook.name}: stopped")
        code = INTERRUPTED
    if code == CALL_AGAIN or (code and limit.reached):
        code = _called_again(notebook, output_root.resolve() / profile / notebook.name)
    sys.exit(code)


if __name__ == "__main__":
    typer.run(main)
