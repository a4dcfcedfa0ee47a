"""Command line: `python -m study_lib.phantom --profile smoke --out DIR`."""

from pathlib import Path
from typing import Annotated

import typer

from study_lib.lock import Busy
from study_lib.phantom.spec import spec_for, version_key


def main(
    profile: Annotated[str, typer.Option(help="Size of the cohort: smoke or demo.")] = "smoke",
    out: Annotated[Path, typer.Option(help="Folder of the data set.")] = Path("phantom"),
    seed: Annotated[int, typer.Option(help="Another seed gives other people.")] = 0,
    coupling: Annotated[float, typer.Option(help="0: the negative control, images and networks unconnected.")] = 0.9,
    workers: Annotated[int, typer.Option(help="Worker processes, -1 for all cores; the files are the same.")] = -1,
    key: Annotated[bool, typer.Option("--version-key", help="Print what identifies the files; write nothing.")] = False,
) -> None:
    """Write the phantom cohort as BIDS, or finish one that was interrupted."""
    try:
        spec = spec_for(profile, seed=seed, coupling=coupling)
        if key:
            typer.echo(version_key(spec))
            return
        from study_lib.phantom.cohort import ensure_cohort  # seconds to import, and not needed for the key

        typer.echo(f"manifest: {ensure_cohort(out, spec, workers)}")
    except (ValueError, FileExistsError, Busy) as error:
        raise typer.BadParameter(str(error)) from None


if __name__ == "__main__":
    typer.run(main)
