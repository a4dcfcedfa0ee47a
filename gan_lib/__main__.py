"""`python -m gan_lib train` and `python -m gan_lib harmonize`; `--help` after either says more."""

import typer

from gan_lib import harmonize_command

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
app.command("harmonize", help=harmonize_command.__doc__)(harmonize_command.harmonize)


@app.command(
    "train",
    help="Train a model on a manifest of one's own sites.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def train(context: typer.Context) -> None:
    """Hand the arguments on; torch is loaded only where it is needed."""
    from gan_lib.train_command import main

    main(context.args)


if __name__ == "__main__":
    app(prog_name="python -m gan_lib")
