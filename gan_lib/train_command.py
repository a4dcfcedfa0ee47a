"""Train a harmonisation model on the sites of a manifest; stopped anywhere, the same command goes on.

MANIFEST lists one T1-weighted scan per row, with its site (see data_manifests/README.md). Rows of role train are
learned from; where no row has that role, nine tenths of the families of each site are, and the rest validates.
Progress is in OUT/records.csv, the model in OUT/model: use it with `gan-harmonize --model OUT/model`. Start it under
`torchrun --nproc-per-node=N -m gan_lib train ...` for N GPUs or processes.

Exit code 0: trained. 2: manifest or options cannot be used. 75: stopped by SIGTERM or SIGUSR1 after saving, call again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from gan_lib.presets import PRESETS, preset
from study_lib.command_exits import told_exits

if TYPE_CHECKING:
    from gan_lib.training_data import TrainingData
    from gan_lib.training_state import TrainingConfig
    from study_lib.training import Ranks
    from study_lib.training.records import Record

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def train(
    manifest: Annotated[Path, typer.Option(help="the manifest (CSV)")],
    out: Annotated[Path, typer.Option(help="the folder for checkpoints, records and the model")],
    settings: Annotated[str, typer.Option("--preset", help=f"one of {', '.join(PRESETS)}")] = "demo",
    iterations: Annotated[int | None, typer.Option(help="how many, if not the preset's")] = None,
    batch: Annotated[int | None, typer.Option(help="slices per iteration, if not the preset's")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16, if not the preset's")] = None,
    seed: Annotated[int, typer.Option(help="another seed, another model")] = 0,
    root: Annotated[Path | None, typer.Option(help="data root, if not the manifest's own")] = None,
    cohort_name: Annotated[str | None, typer.Option(help="name of the data in the model card")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    n_jobs: Annotated[int, typer.Option(help="workers that prepare volumes; -1: one per core")] = -1,
) -> None:
    """Read the options, train, write the model."""
    from study_lib.training import Ranks

    changes = {"iterations": iterations, "batch": batch, "precision": precision}
    changes = {name: value for name, value in changes.items() if value is not None} | {"seed": seed}
    with told_exits(), Ranks(device) as ranks:
        data, config = _prepared(manifest, root, out, (settings, changes, n_jobs), ranks)
        for _ in _records(data, config, out, ranks):
            pass
        if ranks.is_first:
            _write(data, config, out, cohort_name or manifest.stem)


def _prepared(
    manifest: Path, root: Path | None, out: Path, chosen: tuple[str, dict, int], ranks: "Ranks"
) -> tuple["TrainingData", "TrainingConfig"]:
    """The slices, made by the first rank and then opened by all, and the settings for them."""
    from gan_lib.training_data import training_data
    from study_lib.manifest import load_manifest

    name, changes, n_jobs = chosen
    if not ranks.is_first:
        ranks.barrier()
    cohort = load_manifest(manifest, root=root, check_files=False)
    data = training_data(cohort, cohort.table, out / "slices", preset(name), n_jobs, changes["seed"])
    if ranks.is_first:
        ranks.barrier()
        for _, row in data.training.excluded.iterrows():
            typer.echo(f"left out: {row['subject']} ({row['site']}): {row['reason']}; {row['fix']}", err=True)
    return data, preset(name).for_store(data.training, **changes)


def _records(data: "TrainingData", config: "TrainingConfig", out: Path, ranks: "Ranks") -> Iterator["Record"]:
    """Train with a progress bar, and keep the records as a table."""
    from gan_lib.train import fit
    from study_lib.files import atomic_write_text
    from study_lib.training.records import records_table

    kept = []
    with tqdm(total=config.iterations, desc="training", unit="iteration", disable=not ranks.is_first) as bar:
        for record in fit(data.training, out, config, data.validation, ranks):
            kept.append(record)
            bar.update(int(record["iteration"]) - bar.n)
            shown = {name: record[name] for name in ("discriminator", "cycle_latent") if name in record}
            bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            if ranks.is_first:
                atomic_write_text(out / "records.csv", records_table(kept).to_csv(index=False))
            yield record


def _write(data: "TrainingData", config: "TrainingConfig", out: Path, cohort: str) -> None:
    from gan_lib.model_card import CardFacts
    from gan_lib.model_folder import write_model
    from gan_lib.model_making import model_of
    from gan_lib.train import trained_networks

    networks, record = trained_networks(out, config)
    errors = {name: value for name, value in record.items() if name.startswith("validation")}
    model = model_of(networks, data.training, int(record["iteration"]), data.rows)
    write_model(out / "model", model, CardFacts(cohort, errors, "validation subjects" if errors else ""))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    app(arguments, prog_name="python -m gan_lib train")
