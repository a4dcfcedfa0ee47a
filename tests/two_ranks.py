"""What `test_training_ranks` trains, with one rank in the test or with several as `torchrun tests/two_ranks.py OUT`."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from study_lib.training import Ranks, stream

BATCH = 12


class Model(nn.Module):
    """Two weights of each precision, one that no batch uses, and one that only the first half of a batch uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3).double().to(memory_format=torch.channels_last)
        self.linear = nn.Linear(3, 2)
        self.unused, self.early = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, 2))

    def forward(self, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        features = self.conv(images).relu().mean((2, 3)).float()
        out = self.linear(features)
        if (places < BATCH // 2).any():
            out = out + (places < BATCH // 2).float()[:, None] * (features @ self.early)
        return out.square().sum(1)


def train(ranks: Ranks, steps: int = 4) -> tuple[Model, list[float]]:
    """Plain descent on global batches that every rank draws alike; weights, and the loss of every step."""
    torch.manual_seed(0)
    model = Model()
    losses = []
    for step in range(steps):
        images = torch.from_numpy(stream(0, "images", step).standard_normal((BATCH, 2, 5, 4)))
        model.zero_grad()
        loss = model(ranks.share(images), ranks.share(torch.arange(BATCH))).mean()
        loss.backward()
        ranks.mean_gradients(model.parameters())
        descend(model)
        losses.append(ranks.mean({"loss": loss.detach()})["loss"])
    return model, losses


@torch.no_grad()
def descend(model: Model, rate: float = 0.05) -> None:
    """Weights without gradient are left, as torch's optimisers do (which take seconds to import)."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter -= rate * parameter.grad


def answers(ranks: Ranks) -> dict:
    """What each rank sees of the smaller calls."""
    mine = float(ranks.rank)
    ranks.agree("step", 7)
    try:
        ranks.agree("step", 7 + ranks.rank)
    except RuntimeError as error:
        disagreement = str(error)
    ranks.barrier()
    return {
        "rank": [ranks.rank, ranks.world, str(ranks.device), ranks.is_first],
        "share": ranks.share(list(range(6))),
        "mean": ranks.mean({"a": mine, "b": torch.tensor(2 * mine + 1)}),
        "mean_tensor": ranks.mean(torch.tensor([[mine, 4.0]])).tolist(),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False), ranks.any(True)],
        "disagreement": disagreement,
    }


def main(out: Path) -> None:
    """Write what this rank ended with."""
    torch.set_num_threads(1)
    with Ranks("cpu") as ranks:
        model, losses = train(ranks)
        gone = model.unused.grad is None
        torch.save(model.state_dict(), out / f"weights-{ranks.rank}.pt")
        content = {**answers(ranks), "losses": losses, "unused_has_no_gradient": gone}
    content["closed"] = not torch.distributed.is_initialized()
    (out / f"rank-{ranks.rank}.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
