"""A training that one process begins, such as a notebook's, on every graphics card of its machine."""

import uuid
from collections.abc import Callable, Iterator

from tqdm import tqdm

from study_lib.training.ranks import Ranks
from study_lib.training.records import Record
from study_lib.workflow.grid import cards_given

Fit = Callable[..., Iterator[Record]]


def fit_on_cards(fit: Fit, *arguments: object, device: str = "auto", cards: int | None = None) -> int:
    """Train to the end with a process for each card, as `torchrun` starts them. Gives how many processes there were.

    With one card or none nothing is done. Either way the caller's own `fit(*arguments)` comes next: it trains, or
    finds the finished training in its folder and yields the records. `cards`: those of this machine unless given.
    """
    if cards is None:
        cards = cards_given() if device in ("auto", "cuda") else 1
    if cards < 2:
        return 1
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=cards,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        max_restarts=0,
    )
    print(f"training on {cards} cards, a process each", flush=True)
    elastic_launch(launch, _train)(fit, arguments, device)
    return cards


def _train(fit: Fit, arguments: tuple[object, ...], device: str) -> None:
    """One of the processes."""
    with Ranks(device) as ranks:
        for _ in tqdm(fit(*arguments, ranks), desc="records", disable=not ranks.is_first):
            pass
