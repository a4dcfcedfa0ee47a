"""Attention inside windows without the scores of all windows ever being in memory at once.

On a CPU a few windows at a time go from tokens to their sums while their scores are in its cache; the backward pass
computes the scores again (the idea of FlashAttention, Dao et al. 2022; torch's own on CPUs has no gradient for the
bias). Elsewhere torch's fused attention does it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from cinp_lib.windows import WindowGroup, WindowLayout

# queries, keys and values of every token, one after another, each by heads
Projected = Float[Tensor, "batch token three_features"]
Tokens = Float[Tensor, "batch token feature"]
Bias = Float[Tensor, "head place place"]
CHUNK = 2**19  # scores that are computed at a time: with their gradients they stay in a core's cache


def window_attention(projected: Projected, padding: Tensor, bias: Bias, layout: WindowLayout) -> Tokens:
    """softmax(q k^T / sqrt(d) + bias + mask) v in every window; `padding` stands for the tokens the grid lacks."""
    if projected.device.type == "cpu":
        return ChunkedAttention.apply(projected, padding, bias, layout)
    return fused_attention(projected, padding, bias, layout)


def fused_attention(projected: Projected, padding: Tensor, bias: Bias, layout: WindowLayout) -> Tokens:
    """The same by torch's `scaled_dot_product_attention`, one call for every group of windows."""
    batch, tokens, width = projected.shape
    result = projected.new_zeros(batch, tokens, width // 3)
    for group in layout.groups:
        places = _take(projected, group, padding)
        q, k, v = rearrange(places, "row place (three head d) -> three row head place d", three=3, head=len(bias))
        added = (bias if group.mask is None else bias + group.mask).to(q.dtype)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=added[None])
        mixed = rearrange(mixed, "(batch window) head place d -> batch (window place) (head d)", batch=batch)
        keep = slice(None) if group.padding is None else ~group.padding.flatten()
        result = result.index_copy(1, group.tokens.flatten()[keep], mixed[:, keep])
    return result


class ChunkedAttention(torch.autograd.Function):
    """Nothing but its inputs is kept for the backward pass.

    Heads lie as (feature, place): products with the scores are then wide, whose kernels are faster for narrow heads.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, projected: Projected, padding: Tensor, bias: Bias, layout: WindowLayout) -> Tokens:
        batch, tokens, width = projected.shape
        result = projected.new_empty(batch, tokens, width // 3)
        bias = bias.to(_wide(projected))
        scores = _Buffer(bias)
        with torch.autocast("cpu", enabled=False):
            for chunk in _chunks(layout, batch, bias):
                q, k, v = chunk.heads(projected, padding)
                mixed = torch.bmm(v, chunk.weights(q, k, scores).mT)
                chunk.put(result, _joined(mixed[None], len(bias)))
        ctx.save_for_backward(projected, padding, bias)
        ctx.layout = layout
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tokens) -> tuple[Tensor | None, ...]:
        projected, padding, bias = ctx.saved_tensors
        to_projected, to_padding = torch.empty_like(projected), torch.zeros_like(padding, dtype=bias.dtype)
        to_bias, (scores, slopes) = torch.zeros_like(bias), (_Buffer(bias), _Buffer(bias))
        with torch.autocast("cpu", enabled=False):
            for chunk in _chunks(ctx.layout, len(projected), bias):
                q, k, v = chunk.heads(projected, padding)
                (coming,) = chunk.heads(gradient, parts=1)
                weights = chunk.weights(q, k, scores)
                to_v = torch.bmm(coming, weights)
                to_weights = torch.bmm(coming.mT, v, out=slopes.rows(len(v)))
                to_scores = torch._softmax_backward_data(to_weights, weights, -1, bias.dtype, grad_input=to_weights)
                to_bias += to_scores.view(-1, *bias.shape).sum(0)
                scale = len(q[0]) ** -0.5
                to_q, to_k = torch.bmm(k, to_scores.mT).mul_(scale), torch.bmm(q, to_scores).mul_(scale)
                chunk.put(to_projected, _joined(torch.stack([to_q, to_k, to_v]), len(bias)), to_padding)
        return to_projected, to_padding.to(padding.dtype), to_bias, None


class _Buffer:
    """Memory for the scores of a chunk, taken once: taking it anew for every chunk costs more than filling it."""

    def __init__(self, bias: Bias) -> None:
        rows = len(bias) * max(1, CHUNK // bias.numel())
        self._memory = bias.new_empty(rows, *bias.shape[1:])

    def rows(self, number: int) -> Float[Tensor, "row_and_head place place"]:
        return self._memory[:number]


@dataclass(frozen=True)
class Chunk:
    """Some windows of one group, in some samples."""

    samples: slice
    group: WindowGroup
    added: Tensor  # bias and mask

    def take(self, tokens: Tensor, padding: Tensor | None = None) -> Float[Tensor, "row place feature"]:
        return _take(tokens[self.samples], self.group, padding)

    def put(self, target: Tensor, rows: Float[Tensor, "row place feature"], to_padding: Tensor | None = None) -> None:
        """Write places back to their tokens; what belongs to padding is added to `to_padding`."""
        numbers = self.group.tokens.flatten()
        rows = rearrange(rows, "(batch window) place feature -> batch (window place) feature", window=len(self.group))
        if self.group.padding is not None:
            lacking = self.group.padding.flatten()
            if to_padding is not None:
                to_padding += rows[:, lacking].sum((0, 1), dtype=to_padding.dtype)
            numbers, rows = numbers[~lacking], rows[:, ~lacking]
        target[self.samples].index_copy_(1, numbers, rows.to(target.dtype))

    def heads(
        self, tokens: Tensor, padding: Tensor | None = None, parts: int = 3
    ) -> Float[Tensor, "part row_and_head d place"]:
        rows, heads = self.take(tokens, padding).to(self.added.dtype), len(self.added)
        pattern = "row place (part head d) -> part (row head) d place"
        return rearrange(rows, pattern, part=parts, head=heads).contiguous()

    def weights(self, q: Tensor, k: Tensor, buffer: _Buffer) -> Float[Tensor, "row_and_head place place"]:
        scores = torch.bmm(q.mT * len(q[0]) ** -0.5, k, out=buffer.rows(len(q)))
        scores.view(-1, *self.added.shape).add_(self.added)
        return torch.softmax(scores, -1, out=scores)


def _chunks(layout: WindowLayout, batch: int, bias: Bias) -> Iterator[Chunk]:
    """All windows of all samples, so many at a time that their scores are about `CHUNK` numbers."""
    at_once = max(1, CHUNK // bias.numel())
    for group in layout.groups:
        added = bias if group.mask is None else bias + group.mask
        windows, samples = min(at_once, len(group)), max(1, at_once // len(group))
        for first in range(0, batch, samples):
            for part in group.split(windows):
                yield Chunk(slice(first, first + samples), part, added)


def _take(tokens: Tensor, group: WindowGroup, padding: Tensor | None = None) -> Float[Tensor, "row place feature"]:
    """The tokens of windows; where the grid has none `padding`, or 0."""
    windows, places = group.tokens.shape
    taken = tokens.index_select(1, group.tokens.flatten()).view(-1, windows, places, tokens.shape[-1])
    if group.padding is not None:
        fill = taken.new_zeros(()) if padding is None else padding.to(taken.dtype)
        taken = torch.where(group.padding[..., None], fill, taken)
    return taken.flatten(0, 1)


def _joined(parts: Float[Tensor, "part row_and_head d place"], heads: int) -> Float[Tensor, "row place feature"]:
    return rearrange(parts, "part (row head) d place -> row place (part head d)", head=heads)


def _wide(tokens: Tensor) -> torch.dtype:
    """What scores and sums are computed in, whatever the tokens are."""
    return torch.promote_types(tokens.dtype, torch.float32)
