"""How our command lines end: 0 done, 2 a mistake in what was given, 75 stopped after saving."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

MISTAKE = 2


@contextmanager
def told_exits() -> Iterator[None]:
    """What cannot be done is said in a line, without a trace; a run that was stopped says to call again."""
    from study_lib.training import CallAgain, NonFiniteLoss

    try:
        yield
    except CallAgain as again:
        typer.echo(again, err=True)
        raise typer.Exit(again.exit_code) from again
    except (ValueError, KeyError, OSError, NonFiniteLoss) as error:
        raise ended(error) from error


def ended(error: Exception, code: int = MISTAKE) -> typer.Exit:
    """Say the error; gives the exit to raise."""
    typer.echo(error.args[0] if isinstance(error, KeyError) and error.args else error, err=True)
    return typer.Exit(code)
