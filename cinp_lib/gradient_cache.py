"""Gradients of a loss over a large batch, with the graph of one small chunk in memory at a time.

The idea is GradCache's (Gao et al. 2021): features of all chunks without graph, the loss on all of them, its gradient
for each feature, and then each chunk once more, now with its graph, which that gradient enters. Numbers are those of
the plain step, if a chunk sees the same random numbers both times; parameters that only the loss of all features
uses, such as the temperature, get their gradient from it once. The last chunk keeps its first graph: a batch that is
one chunk is a plain step, at no extra cost.

With several ranks each of them sees the features of all, so each computes the whole loss; what enters a chunk is then
multiplied by the number of ranks, as the mean over ranks that follows shall be the sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from cinp_lib.losses import Loss
from cinp_lib.model import Features
from study_lib.training import Ranks


@dataclass(frozen=True)
class Seen:
    """What one chunk gives: features of its images and networks, and a loss of its own, None where there is none.

    `loss` counts in the mean over the rank's pairs; `parts` are its named numbers.
    """

    images: Features
    networks: Features
    loss: Tensor | None
    parts: dict[str, Tensor]

    @property
    def features(self) -> tuple[Features, Features]:
        """Both kinds."""
        return self.images, self.networks


See = Callable[[slice, bool], Seen]  # the pairs of a chunk; whether the loss of its own is wanted too


def chunks_of(part: slice, chunk: int | None) -> list[slice]:
    """A rank's part of the batch in chunks of at most so many pairs; the last one may be smaller."""
    size = chunk or part.stop - part.start
    return [slice(start, min(start + size, part.stop)) for start in range(part.start, part.stop, size)]


def backward(
    see: See, chunks: Sequence[slice], pair_loss: Callable[[tuple[Features, Features]], Loss] | None, ranks: Ranks
) -> dict[str, Tensor]:
    """Add the gradients of `pair_loss` of all features and of the chunks' own losses; gives the named losses.

    `chunks` may come in any order. `pair_loss` None: no loss compares pairs, and nothing needs to be seen twice.
    Gradients of all parameters are then to be averaged over ranks.
    """
    number = sum(chunk.stop - chunk.start for chunk in chunks)
    seen, gradients, parts = {}, None, {}
    if pair_loss is not None:
        for chunk in chunks:
            with torch.set_grad_enabled(chunk is chunks[-1]):
                seen[chunk.start] = see(chunk, chunk is chunks[-1])
        leaves = [_gathered([seen[start].features[side] for start in sorted(seen)], ranks) for side in (0, 1)]
        loss, parts = pair_loss(tuple(leaves))
        loss.backward()
        gradients = [ranks.world * leaf.grad for leaf in leaves]
    own: dict[str, Tensor] = {}
    for chunk in reversed(chunks):
        one = seen[chunk.start] if seen and chunk is chunks[-1] else see(chunk, True)
        seen.pop(chunk.start, None)  # its graph goes with it
        share = (chunk.stop - chunk.start) / number
        _enter(one, share, gradients and [gradient[chunk] for gradient in gradients])
        own |= {name: own.get(name, 0) + share * value for name, value in one.parts.items()}
    return parts | own


def _enter(seen: Seen, share: float, gradients: list[Tensor] | None) -> None:
    """One chunk's way back, from its features and its own loss at once."""
    ends: list[tuple[Tensor, Tensor | None]] = []
    if gradients is not None:
        ends = [pair for pair in zip(seen.features, gradients, strict=True) if pair[0].requires_grad]
    if seen.loss is not None:
        ends.append((share * seen.loss, None))
    if ends:
        torch.autograd.backward(*map(list, zip(*ends, strict=True)))


def _gathered(features: Sequence[Tensor], ranks: Ranks) -> Tensor:
    """The features of all ranks in the order of the batch, as a leaf that collects a gradient."""
    mine = torch.cat([one.detach() for one in features]).contiguous()
    if ranks.world > 1:
        everyone = [torch.empty_like(mine) for _ in range(ranks.world)]
        distributed.all_gather(everyone, mine)
        mine = torch.cat(everyone)
    return mine.requires_grad_()
