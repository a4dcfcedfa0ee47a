"""Pre-train on the image-network pairs of a manifest; stopped anywhere, the same command goes on.

MANIFEST lists one T1-weighted scan per row, with BOLD or region series of its subject (see data_manifests/README.md).
Rows of role pre-training are used, or where nobody has it those without a role: eight tenths of the families train, a
tenth chooses the state that is kept, a tenth is for evaluation. Networks are made first, unless --networks names a
folder of them. Progress is in OUT/records.csv, the model in OUT/model, the scores of the people kept for evaluation in
OUT/evaluation.json. Start it under `torchrun --nproc-per-node=N -m cinp_lib pretrain ...` for N GPUs or processes.

Exit code 0: trained. 2: manifest or options cannot be used. 75: stopped by SIGTERM or SIGUSR1 after saving, call again.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from study_lib.command_exits import told_exits

if TYPE_CHECKING:
    from cinp_lib.pair_store import PairParts, PairStore
    from cinp_lib.pairs import PairConfig
    from cinp_lib.pretraining_state import PretrainingConfig
    from study_lib.manifest import Manifest
    from study_lib.training import Ranks
    from study_lib.training.records import Record

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def pretrain(
    manifest: Annotated[Path, typer.Option(help="the manifest (CSV)")],
    out: Annotated[Path, typer.Option(help="the folder for checkpoints, records and the model")],
    networks: Annotated[
        Path | None, typer.Option(help="folder of networks, as cinp_lib.connectivity writes it")
    ] = None,
    settings: Annotated[str, typer.Option("--preset", help="smoke, demo or paper")] = "demo",
    iterations: Annotated[int | None, typer.Option(help="how many, if not the preset's")] = None,
    batch: Annotated[int | None, typer.Option(help="pairs per iteration, if not the preset's")] = None,
    chunk: Annotated[int | None, typer.Option(help="pairs in memory at a time, if not the preset's")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16, if not the preset's")] = None,
    image_weights: Annotated[str | None, typer.Option(help="published Swin weights to begin with")] = None,
    seed: Annotated[int, typer.Option(help="another seed, another model")] = 0,
    root: Annotated[Path | None, typer.Option(help="data root, if not the manifest's own")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    n_jobs: Annotated[int, typer.Option(help="workers that prepare scans; -1: one per core")] = -1,
) -> None:
    """Read the options, train, write the model."""
    from study_lib.training import Ranks

    given = {"iterations": iterations, "batch": batch, "chunk": chunk, "precision": precision}
    given |= {"image_weights": image_weights, "seed": seed}
    changes = {name: value for name, value in given.items() if value is not None}
    with told_exits(), Ranks(device) as ranks:
        pairs, config = _settings(settings, changes)
        parts = _prepared((manifest, root, networks), out, pairs, (seed, n_jobs), ranks)
        for _ in _records(parts, config, out, ranks):
            pass
        if ranks.is_first:
            _write(parts, pairs, config, out, manifest.stem)


def _settings(name: str, changes: dict) -> tuple["PairConfig", "PretrainingConfig"]:
    from cinp_lib.presets import preset

    chosen = preset(name)
    return chosen.pairs, replace(chosen.training, **changes)


def _prepared(
    given: tuple[Path, Path | None, Path | None],
    out: Path,
    pairs: "PairConfig",
    chosen: tuple[int, int],
    ranks: "Ranks",
) -> "PairParts":
    """The pairs, made by the first rank and then opened by all, in their parts."""
    from cinp_lib.pair_store import PairStore, parts_of, pretraining_rows
    from study_lib.manifest import load_manifest

    (manifest, root, networks), (seed, n_jobs) = given, chosen
    if not ranks.is_first:
        ranks.barrier()
    cohort = load_manifest(manifest, root=root, check_files=False)
    rows = pretraining_rows(cohort)
    if ranks.is_first:
        networks = networks or networks_of(replace(cohort, table=rows.reset_index(drop=True)), out / "networks", n_jobs)
    store = PairStore.build(rows, cohort, networks or out / "networks", out / "pairs", pairs, n_jobs)
    if ranks.is_first:
        ranks.barrier()
        say_excluded(store)
    return parts_of(store, seed)


def networks_of(cohort: "Manifest", folder: Path, n_jobs: int) -> Path:
    """Networks of everybody in the manifest, made or found in the folder; failures are said, never raised."""
    from cinp_lib.connectivity import make_networks

    result = make_networks(cohort, folder, n_jobs=n_jobs)
    for _, row in result.failures.iterrows():
        typer.echo(f"no network: {row['subject']}: {row['reason']}; {row['fix']}", err=True)
    return folder


def say_excluded(store: "PairStore") -> None:
    """One line for each scan that was left out."""
    for _, row in store.excluded.iterrows():
        typer.echo(f"left out: {row['subject']} ({row['site']}): {row['reason']}; {row['fix']}", err=True)


def _records(parts: "PairParts", config: "PretrainingConfig", out: Path, ranks: "Ranks") -> Iterator["Record"]:
    """Train with a progress bar, and keep the records as a table."""
    from cinp_lib.pretrain import fit
    from study_lib.files import atomic_write_text
    from study_lib.training.records import records_table

    kept = []
    with tqdm(total=config.iterations, desc="pre-training", unit="iteration", disable=not ranks.is_first) as bar:
        for record in fit(parts.training, out, config, parts.validation, ranks):
            kept.append(record)
            bar.update(int(record["iteration"]) - bar.n)
            shown = {name: record[name] for name in ("loss", "contrastive", "tau") if name in record}
            bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            if ranks.is_first:
                atomic_write_text(out / "records.csv", records_table(kept).to_csv(index=False))
            yield record


def _write(parts: "PairParts", pairs: "PairConfig", config: "PretrainingConfig", out: Path, cohort: str) -> None:
    import pandas as pd

    from cinp_lib.evaluation import alignment_scores
    from cinp_lib.pretrain import trained_model
    from cinp_lib.pretrained_model import PretrainedModel
    from study_lib.files import atomic_write_json

    model, record = trained_model(out, config)
    seen = pd.concat([parts.training.table, parts.validation.table], ignore_index=True)
    PretrainedModel(model, pairs, seen, {"cohort": cohort, "record": record}).save(out / "model")
    if config.objective.pairs:
        atomic_write_json(out / "evaluation.json", alignment_scores(model, parts.test))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    app(arguments, prog_name="python -m cinp_lib pretrain")
