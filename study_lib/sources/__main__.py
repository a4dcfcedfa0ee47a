"""`python -m study_lib.sources DATASET --root DIR --out FILE` builds a manifest; `list` shows all data sets.

`--help` after a data set's name shows its options.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from study_lib.sources import SOURCES, Curation, Source, curate, write_curation
from study_lib.sources.output import top_reasons

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


class T1wChoice(StrEnum):
    """Which T1w is preferred where a session has both."""

    PREPROCESSED = "preprocessed"
    RAW = "raw"


def command(source: Source) -> Callable[..., None]:
    """The command that builds the manifest of one data set."""

    def build(
        root: Annotated[Path, typer.Option(help="the folder that holds the data set")],
        out: Annotated[Path, typer.Option(help="the manifest to write (CSV)")],
        phenotypic: Annotated[
            list[Path] | None, typer.Option(help="a table of people; may be given several times")
        ] = None,
        cohort: Annotated[str, typer.Option(help="the cohort's name (bids only)")] = "",
        t1w: Annotated[T1wChoice, typer.Option(help="which T1w to prefer")] = T1wChoice.PREPROCESSED,
        task: Annotated[str, typer.Option(help="the functional task to take")] = "rest",
        checksums: Annotated[bool, typer.Option(help="fill in the SHA-256 of every file")] = True,
    ) -> None:
        choices = {"cohort": cohort, "t1w": t1w.value, "task": task}
        try:
            curation = curate(source.name, root, tuple(phenotypic or ()), checksums, True, **choices)
            paths = write_curation(curation, out, root)
        except (ValueError, OSError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
        _report(source, curation, paths)

    return build


def _report(source: Source, curation: Curation, paths: list[Path]) -> None:
    table, excluded = curation.table, curation.excluded
    typer.echo(f"{source.title} (adapter {source.status}: {source.evidence})")
    people, subjects = curation.read["subject"].nunique(), table["subject"].nunique()
    typer.echo(f"{people} people read, {len(table)} scans of {subjects} subjects kept")
    typer.echo(f"{len(excluded)} excluded, {len(curation.warnings)} warnings")
    for reason, count in top_reasons(excluded).items():
        typer.echo(f"  {count:5d} excluded: {reason}")
    for reason, count in top_reasons(curation.warnings).items():
        typer.echo(f"  {count:5d} kept, but: {reason}")
    typer.echo("written: " + ", ".join(str(path) for path in paths))


@app.command("list", help="The data sets, and whether their adapters have met real data.")
def list_sources() -> None:
    """Print one row per data set."""
    table = Table("name", "data set", "status", "run on, or read in")
    for source in SOURCES.values():
        table.add_row(source.name, source.title, source.status, source.evidence)
    Console().print(table)


for _source in SOURCES.values():
    app.command(_source.name, help=f"{_source.title} ({_source.status}).")(command(_source))

if __name__ == "__main__":
    app()
