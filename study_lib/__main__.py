"""The command line behind `./run figures` and `./run lint`: `python -m study_lib figures --help`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from study_lib.command_exits import MISTAKE
from study_lib.lock import Busy
from study_lib.profiles import PROFILES
from study_lib.provenance import REPOSITORY
from study_lib.workflow import notebook_rules, pipeline
from study_lib.workflow.subprocesses import INTERRUPTED

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
PROFILE_HELP = "; ".join(f"{name}: {meaning}" for name, meaning in PROFILES.items())


@app.command()
def figures(
    profile: Annotated[str, typer.Option(help=PROFILE_HELP)] = "demo",
    until: Annotated[str | None, typer.Option(metavar="NN", help="stop after this notebook")] = None,
    cores: Annotated[int | None, typer.Option(metavar="N", help="processor cores; all by default")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NN.NAME=VALUE", help="a notebook's parameter; may be repeated"),
    ] = None,
    manifest: Annotated[str | None, typer.Option(metavar="FILE", help="a cohort of your own")] = None,
    output_root: Annotated[str | None, typer.Option(metavar="DIR", help="instead of outputs/")] = None,
    executor: Annotated[str, typer.Option(help="local or slurm")] = "local",
    seeds: Annotated[int | None, typer.Option(metavar="N", help="models of each variant in notebook 10")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and why")] = False,
    story: Annotated[str, typer.Option(hidden=True)] = "study_lib.workflow.story:STORY",
) -> None:
    """Run the notebooks and write the report; only what is missing or out of date."""
    asked = (profile, until, cores, tuple(settings or ()), manifest, output_root, executor, dry_run, story)
    try:
        code = pipeline.run(pipeline.plan(pipeline.Request(*asked, seeds=seeds)))
    except (ValueError, Busy) as error:
        print(error, file=sys.stderr)
        code = MISTAKE
    except KeyboardInterrupt:  # before or after the workflow, which handles its own
        code = INTERRUPTED
    raise typer.Exit(code)


@app.command()
def lint(folder: Path = REPOSITORY / "notebooks") -> None:
    """Hold the notebooks against the rules of the house."""
    problems = [
        f"{path}: {problem}" for path in sorted(folder.glob("*.ipynb")) for problem in notebook_rules.problems(path)
    ]
    print("\n".join(problems) or f"Notebooks in {folder}: all rules kept.")
    raise typer.Exit(1 if problems else 0)


if __name__ == "__main__":
    app()
