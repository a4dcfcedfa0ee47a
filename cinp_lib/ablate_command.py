"""Train and judge one variant of pre-training: some of the losses, exchanged pairs, or no coupling.

Reads the folder that notebook 07 leaves; writes OUT/<variant>-<seed>.json when all is done, whole or not at all. What
is finished is not done again, and what was stopped goes on, as long as settings, pairs and code are the same. Start it
under `torchrun --nproc-per-node=N -m cinp_lib ablate ...` for N GPUs or processes.

Exit code 0: the file is there. 2: options or folders cannot be used. 75: stopped by SIGTERM or SIGUSR1 after saving,
call again.
"""

from pathlib import Path
from typing import Annotated

import typer

from study_lib.command_exits import told_exits

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def ablate(
    variant: Annotated[str, typer.Option(help="inc_mim_inm, inc_mim, inc_inm, inc, mim, shuffled_pairs or uncoupled")],
    pretraining: Annotated[Path, typer.Option(help="the folder of notebook 07: pairs and task_pairs are read")],
    out: Annotated[Path, typer.Option(help="the folder for the outcome, and for checkpoints")],
    settings: Annotated[str, typer.Option("--preset", help="smoke, demo or paper")] = "demo",
    seed: Annotated[int, typer.Option(help="another seed, another model")] = 0,
    share: Annotated[float, typer.Option(help="of the preset's iterations; 0: the preset's own share")] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    n_jobs: Annotated[int, typer.Option(help="workers that make the uncoupled cohort; -1: one per core")] = 1,
) -> None:
    """Read the options, run the job."""
    from cinp_lib.ablation_runs import Job, Places, run_job

    with told_exits():
        places = Places(pretraining, out)
        outcome = run_job(Job(variant, seed), places.plan(settings, share), places, device, n_jobs)
    typer.echo(f"{variant}, seed {seed}: the state of iteration {outcome.kept} of {outcome.iterations}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    app(arguments, prog_name="python -m cinp_lib ablate")


if __name__ == "__main__":
    main()
