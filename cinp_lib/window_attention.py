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
    """Nothing but its inputs is kept for the backward pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, projected: Projected, padding: Tensor, bias: Bias, layout: WindowLayout) -> Tokens:
        batch, tokens, width = projected.shape
        heads = len(bias)
        result = projected.new_empty(batch, tokens, width // 3)
        wide = torch.promote_types(projected.dtype, torch.float32)  # of scores and sums, whatever the tokens are
        bias, padding = bias.to(wide), padding.to(projected.dtype)
        with torch.autocast("cpu", enabled=False):
            for chunk in _chunks(layout, batch, bias):
                q, k, v = _heads(chunk.take(projected, padding), heads)
                mixed = torch.bmm(chunk.weights(q, k).to(v.dtype), v)
                chunk.put(result, _joined(mixed[None], heads))
        ctx.save_for_backward(projected, padding, bias)
        ctx.layout = layout
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tokens) -> tuple[Tensor | None, ...]:
        projected, padding, bias = ctx.saved_tensors
        heads = len(bias)
        to_projected, to_padding = torch.empty_like(projected), torch.zeros_like(padding, dtype=bias.dtype)
        to_bias = torch.zeros_like(bias)
        scale = (projected.shape[-1] // 3 // heads) ** -0.5
        with torch.autocast("cpu", enabled=False):
            for chunk in _chunks(ctx.layout, len(projected), bias):
                q, k, v = _heads(chunk.take(projected, padding), heads)
                (coming,) = _heads(chunk.take(gradient), heads, 1)
                weights = chunk.weights(q, k)
                to_v = torch.bmm(weights.to(v.dtype).mT, coming)
                to_weights = torch.bmm(coming, v.mT).to(bias.dtype)
                to_scores = torch._softmax_backward_data(to_weights, weights, -1, bias.dtype)
                to_bias += to_scores.view(-1, *bias.shape).sum(0)
                to_scores = to_scores.to(v.dtype)
                to_q, to_k = torch.bmm(to_scores, k).mul_(scale), torch.bmm(to_scores.mT, q).mul_(scale)
                joined = _joined(torch.stack([to_q, to_k, to_v]), heads)
                chunk.put(to_projected, joined, to_padding)
        return to_projected, to_padding.to(padding.dtype), to_bias, None


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
        target[self.samples].index_copy_(1, numbers, rows)

    def weights(self, q: Tensor, k: Tensor) -> Float[Tensor, "row_and_head place place"]:
        scores = torch.bmm(q * q.shape[-1] ** -0.5, k.mT).to(self.added.dtype)
        scores.view(-1, *self.added.shape).add_(self.added)
        return scores.softmax(-1)


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


def _heads(rows: Tensor, heads: int, parts: int = 3) -> Float[Tensor, "part row_and_head place d"]:
    return rearrange(rows, "row place (part head d) -> part (row head) place d", part=parts, head=heads).contiguous()


def _joined(parts: Float[Tensor, "part row_and_head place d"], heads: int) -> Float[Tensor, "row place feature"]:
    return rearrange(parts, "part (row head) place d -> row place (part head d)", head=heads)
