"""`python -m cinp_lib pretrain`, `embed` and `ablate`; `--help` after each says more."""

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
FREE = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("pretrain", help="Pre-train on the pairs of a manifest.", add_help_option=False, context_settings=FREE)
def pretrain(context: typer.Context) -> None:
    """Hand the arguments on; torch is loaded only where it is needed."""
    from cinp_lib.pretrain_command import main

    main(context.args)


@app.command("embed", help="Embed scans with a pre-trained model.", add_help_option=False, context_settings=FREE)
def embed(context: typer.Context) -> None:
    """The same for embeddings."""
    from cinp_lib.embed_command import main

    main(context.args)


@app.command("ablate", help="Train and judge a variant of pre-training.", add_help_option=False, context_settings=FREE)
def ablate(context: typer.Context) -> None:
    """The same for Table 4."""
    from cinp_lib.ablate_command import main

    main(context.args)


if __name__ == "__main__":
    app(prog_name="python -m cinp_lib")
