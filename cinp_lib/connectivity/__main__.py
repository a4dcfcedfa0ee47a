"""`python -m cinp_lib.connectivity --manifest M --out DIR` makes the functional network of every subject.

Goes on where it stopped: subjects whose result has the same settings and inputs are skipped. One network per subject:
sessions and runs are cleaned and standardised one by one and put end to end (--per-session keeps sessions apart).
Exit code 0 if any network is there, 1 if every subject failed, 2 if manifest, atlas or options cannot be used.
"""

from pathlib import Path
from typing import Annotated

import typer

from cinp_lib.connectivity.atlas import load_atlas
from cinp_lib.connectivity.batch import make_networks, summary
from cinp_lib.connectivity.results import NetworkSettings
from cinp_lib.connectivity.series import SeriesSettings
from cinp_lib.connectivity.strategies import DEFAULT_STRATEGY, STRATEGIES
from study_lib.manifest import load_manifest

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=__doc__)
def main(
    manifest: Annotated[Path, typer.Option(help="the manifest (CSV)")],
    out: Annotated[Path, typer.Option(help="the folder for networks/, and failures.csv")],
    strategy: Annotated[str, typer.Option(help=f"one of {', '.join(STRATEGIES)}")] = DEFAULT_STRATEGY,
    kind: Annotated[str, typer.Option(help="correlation or partial")] = "correlation",
    fisher_z: Annotated[bool, typer.Option(help="arctanh of the edges")] = False,
    atlas: Annotated[Path | None, typer.Option(help="label image; default: the data set's own, else AAL")] = None,
    atlas_as_is: Annotated[bool, typer.Option(help="take the atlas where it lies, unchecked")] = False,
    root: Annotated[Path | None, typer.Option(help="data root, if not the manifest's own")] = None,
    n_jobs: Annotated[int, typer.Option(help="workers; -1: one per core")] = -1,
    prefer: Annotated[str, typer.Option(help="bold or time_series, where a row has both")] = "bold",
    per_session: Annotated[bool, typer.Option(help="one network per session, not per subject")] = False,
    min_volumes: Annotated[int, typer.Option(help="fewest volumes left")] = SeriesSettings.min_volumes,
    repetition_time: Annotated[float | None, typer.Option(help="seconds, where files do not say")] = None,
) -> None:
    """Read the options, make the networks, report."""
    try:
        changes = {"min_volumes": min_volumes, "repetition_time_s": repetition_time}
        settings = NetworkSettings(SeriesSettings.of(strategy, **changes), kind, fisher_z, prefer, per_session)
        # Each subject's files are checked when they are read; T1w volumes are not needed here.
        table = load_manifest(manifest, root=root, check_files=False)
        chosen = load_atlas(atlas, check_place=not atlas_as_is) if atlas else None
        result = make_networks(table, out, settings, chosen, n_jobs)
    except (ValueError, KeyError, OSError) as error:
        typer.echo(error.args[0] if isinstance(error, KeyError) else error, err=True)
        raise typer.Exit(2) from error
    for line in summary(result):
        typer.echo(line, err=True)
    raise typer.Exit(0 if result.made or result.skipped else 1)


if __name__ == "__main__":
    app()
