"""Embed the scans of a manifest, and their networks, with a pre-trained model.

Writes OUT.npz (arrays image, network, subject) and OUT.csv (subject, session, site, role, diagnosis ...), row by row
alike. Networks are made first, unless --networks names a folder of them; a scan without one gets NaN for it. Prepared
scans are kept beside OUT, so that calling again costs little.

Exit code 0: embedded. 2: manifest, model or options cannot be used.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from study_lib.command_exits import told_exits

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def embed(
    manifest: Annotated[Path, typer.Option(help="the manifest (CSV)")],
    model: Annotated[Path, typer.Option(help="the model's folder")],
    out: Annotated[Path, typer.Option(help="the two files, without their endings")],
    networks: Annotated[
        Path | None, typer.Option(help="folder of networks, as cinp_lib.connectivity writes it")
    ] = None,
    unseen: Annotated[bool, typer.Option(help="refuse people that the model was trained on")] = False,
    root: Annotated[Path | None, typer.Option(help="data root, if not the manifest's own")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    n_jobs: Annotated[int, typer.Option(help="workers that prepare scans; -1: one per core")] = -1,
) -> None:
    """Read the options, embed, write."""
    with told_exits():
        _embed((manifest, root), model, out, networks, (unseen, device, n_jobs))


def _embed(
    given: tuple[Path, Path | None], model: Path, out: Path, networks: Path | None, chosen: tuple[bool, str, int]
) -> None:
    from cinp_lib.embeddings import embed_pairs
    from cinp_lib.pair_store import PairStore
    from cinp_lib.pairs import SubjectNetworks
    from cinp_lib.pretrain_command import networks_of, say_excluded
    from cinp_lib.pretrained_model import PretrainedModel
    from study_lib.manifest import load_manifest
    from study_lib.training import pick_device

    (manifest, root), (unseen, device, n_jobs) = given, chosen
    trained, cohort = PretrainedModel.load(model), load_manifest(manifest, root=root, check_files=False)
    rows = cohort.table[cohort.table["t1w"] != ""].reset_index(drop=True)
    if unseen:
        trained.forbid_leak(rows)
    regions = trained.model.config.network.regions
    if networks is None and (rows[["bold", "time_series"]] == "").all(axis=None):
        known = SubjectNetworks.none(regions)
    else:
        folder = networks or networks_of(replace(cohort, table=rows), out.with_name(f"{out.name}_networks"), n_jobs)
        known = SubjectNetworks.load(folder)
    folder = out.with_name(f"{out.name}_pairs")
    store = PairStore.build(rows, cohort, known, folder, trained.for_images_alone(), n_jobs)
    say_excluded(store)
    paths = embed_pairs(trained.model.to(pick_device(device)), store).save(out)
    typer.echo(f"{len(store)} scans: {paths[0]}, {paths[1]}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    app(arguments, prog_name="python -m cinp_lib embed")
