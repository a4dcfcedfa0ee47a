"""One variant and seed of a notebook's grid: `python -m study_lib.workflow.grid_job 10_loss_ablation inc 0 …`.

What the command says goes into a log beside its result; how it failed, into the notebook's folder, for the report.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from study_lib.files import atomic_write_json, read_json
from study_lib.profiles import check_profile
from study_lib.workflow.grid import cards_given
from study_lib.workflow.notebook import CALL_AGAIN
from study_lib.workflow.report import build_report
from study_lib.workflow.slurm import TimeLimit, requeue
from study_lib.workflow.story import Notebook, Story, load_story
from study_lib.workflow.subprocesses import INTERRUPTED, stop_with_parent, wait_or_stop

FAILURE = "failure.json"


def run_grid_job(told: Story, notebook: Notebook, words: dict[str, Any], given: dict[str, Any], root: Path) -> int:
    """Run the command in `root`, outputs/<profile>; gives its exit code."""
    folder, label = root / notebook.name, f"{words['variant']}-{words['seed']}"
    result = folder / notebook.grid.result.format(**words)
    log, begin = result.with_suffix(".log"), time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    _forget(folder / FAILURE, label)
    cards = 0 if given.get("device") == "cpu" else cards_given()
    print(f"{notebook.name}: {label} started", flush=True)
    code = _run(notebook.grid.command_line(words, given, cards), log, root)
    if code == 0 and not result.is_file():
        code = 1
    if code not in (0, CALL_AGAIN, INTERRUPTED):
        failure = {"error": f"{label}: {_last_line(log)}", "exit_code": code, "job": label}
        atomic_write_json(folder / FAILURE, failure | {"log": log.relative_to(folder).as_posix()})
        build_report(told, root)
    end = {0: "done", CALL_AGAIN: "stopped, to go on when called again", INTERRUPTED: "stopped"}.get(code, "FAILED")
    print(f"{notebook.name}: {label} {end} after {time.monotonic() - begin:.0f} s", flush=True)
    return code


def _run(command: list[str], log: Path, folder: Path) -> int:
    """The exit code; in a job of SLURM, 75 where the time limit came first."""
    limit = TimeLimit()
    environment = os.environ | {"TQDM_MININTERVAL": "30"}
    with open(log, "w", encoding="utf-8") as file, limit.watched():
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        code = process.wait() if "SLURM_JOB_ID" in os.environ else wait_or_stop(process)
    if code == CALL_AGAIN or (code and limit.reached):
        requeue()
        return CALL_AGAIN
    return code if code >= 0 else 128 - code


def _forget(failure: Path, label: str) -> None:
    """An earlier failure of this job; that of another one stays."""
    if (read_json(failure) or {}).get("job") == label:
        failure.unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended without its result")


def main(
    name: str,
    variant: str,
    seed: int,
    profile: Annotated[str, typer.Option()],
    output_root: Annotated[Path, typer.Option()],
    parameters: Annotated[str, typer.Option(help="a JSON object")] = "{}",
    story: Annotated[str, typer.Option(help="module:name")] = "study_lib.workflow.story:STORY",
) -> None:
    """Run one job of a grid."""
    stop_with_parent()
    told = load_story(story)
    words = {"variant": variant, "seed": seed, "profile": check_profile(profile)}
    root = output_root.resolve() / profile
    sys.exit(run_grid_job(told, told.numbered(name), words, json.loads(parameters), root))


if __name__ == "__main__":
    typer.run(main)
