"""The Swin transformer computes what MONAI's does, from the same weights, in every shape of grid and window."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from benchmarks.plain_cinp import plain_encoder
from cinp_lib import swin, window_attention
from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.swin import OCTANTS, PatchMerging, SwinTransformer
from cinp_lib.window_attention import ChunkedAttention, fused_attention
from cinp_lib.windows import MASKED, relative_positions, window_layout

CPU = torch.device("cpu")
SMALL = ImageEncoderConfig(size=(32, 32, 32), features=6, heads=(1, 2, 3, 2), window=4)
ODD = replace(SMALL, size=(33, 20, 26), window=3)
GRIDS = [((4, 5, 7), 3), ((8, 8, 8), 4), ((5, 3, 9), 5), ((2, 3, 2), 4)]


def double(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def shaken(network):
    """All weights, also those that begin at 0 or 1, moved a little, in float64."""
    for number, weight in enumerate(network.parameters()):
        weight += 0.2 * double(*weight.shape, seed=number).to(weight)
    return network.double()


def outputs_and_gradients(network, volumes, pick):
    """Of a random linear function of what is picked, for the volumes and for every weight by name."""
    volumes = volumes.clone().requires_grad_()
    torch.manual_seed(3)  # of stochastic depth
    out = pick(network(volumes))
    (out * double(*out.shape, seed=5)).sum().backward()
    return out.detach(), {"volumes": volumes.grad} | {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("attention", ["chunked", "fused"])
@pytest.mark.parametrize("merging", ["v2", "legacy"])
@pytest.mark.parametrize(
    "config", [SMALL, ODD, replace(ODD, window=7, depths=(3, 1, 2, 1)), replace(SMALL, drop_path=0.4)]
)
def test_outputs_and_all_gradients_are_those_of_monai(config, merging, attention, monkeypatch):
    if attention == "fused":
        monkeypatch.setattr(swin, "window_attention", fused_attention)
    config = replace(config, merging=merging)
    ours, theirs = shaken(SwinTransformer(config)), plain_encoder(config).double()
    theirs.load_state_dict(ours.state_dict())
    volumes = double(3, 1, *config.size)
    got, gradients = outputs_and_gradients(ours, volumes, lambda grid: grid)
    expected, their_gradients = outputs_and_gradients(theirs, volumes, lambda grids: grids[-1])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], rtol=1e-10, atol=1e-10, msg=name)


def naive_attention(projected, padding, bias, grid, window, shifted):
    """Padded, rolled, and then pair by pair in loops, after Liu et al."""
    heads, tokens, width = len(bias), projected.shape[1], projected.shape[2] // 3
    sides = [min(n, window) for n in grid]
    shift = [window // 2 if shifted and n > window else 0 for n in grid]
    padded = [math.ceil(n / s) * s for n, s in zip(grid, sides, strict=True)]
    result = torch.zeros(len(projected), tokens, width, dtype=projected.dtype)

    def source(place):
        back = [(p + s) % n for p, s, n in zip(place, shift, padded, strict=True)]
        inside = all(b < n for b, n in zip(back, grid, strict=True))
        return (back[0] * grid[1] + back[1]) * grid[2] + back[2] if inside else None

    def region(place):  # the parts between which the shift put a seam
        parts = zip(place, sides, shift, padded, strict=True)
        return [0 if not s or p < n - side else 1 if p < n - s else 2 for p, side, s, n in parts]

    for corner in itertools.product(*(range(0, n, s) for n, s in zip(padded, sides, strict=True))):
        inner = itertools.product(*(range(s) for s in sides))
        places = [tuple(c + i for c, i in zip(corner, offset, strict=True)) for offset in inner]
        numbers, regions = [source(place) for place in places], [region(place) for place in places]
        seam = torch.tensor([[0.0 if a == b else MASKED for b in regions] for a in regions], dtype=torch.float64)
        for sample in range(len(projected)):
            rows = torch.stack([padding if n is None else projected[sample, n] for n in numbers])
            q, k, v = rows.view(len(rows), 3, heads, -1).unbind(1)
            for head in range(heads):
                scores = q[:, head] @ k[:, head].T / math.sqrt(width // heads) + bias[head] + seam
                mixed = scores.softmax(-1) @ v[:, head]
                for number, row in zip(numbers, mixed, strict=True):
                    if number is not None:
                        result[sample, number, head * row.numel() : (head + 1) * row.numel()] = row
    return result


@pytest.mark.parametrize(("grid", "window"), GRIDS)
@pytest.mark.parametrize("shifted", [False, True])
def test_attention_is_that_of_loops_over_windows_and_heads(grid, window, shifted):
    layout = window_layout(grid, window, shifted, CPU)
    tokens = grid[0] * grid[1] * grid[2]
    projected, padding = double(2, tokens, 12), double(12, seed=1)
    bias = double(2, layout.places, layout.places, seed=2)
    expected = naive_attention(projected, padding, bias, grid, window, shifted)
    for way in (ChunkedAttention.apply, fused_attention):
        torch.testing.assert_close(way(projected, padding, bias, layout), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shifted", [False, True])
def test_gradients_of_attention_are_those_of_finite_differences(shifted):
    layout = window_layout((3, 2, 3), 2, shifted, CPU)
    inputs = [double(2, 18, 6), double(6, seed=1), double(1, 8, 8, seed=2)]
    inputs = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(lambda *values: ChunkedAttention.apply(*values, layout), inputs)


@pytest.mark.parametrize("scores", [1, 5000, 10**9])
def test_how_many_windows_are_done_at_a_time_changes_nothing(scores, monkeypatch):
    network, volumes = shaken(SwinTransformer(ODD)), double(3, 1, *ODD.size)
    expected, gradients = outputs_and_gradients(network, volumes, lambda grid: grid)
    network.zero_grad()
    monkeypatch.setattr(window_attention, "CHUNK", scores)
    got, again = outputs_and_gradients(network, volumes, lambda grid: grid)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-10, atol=1e-10)


def test_activations_that_are_computed_again_give_the_same_gradients_under_dropout():
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        network = SwinTransformer(replace(SMALL, dropout=0.2, drop_path=0.3, checkpoint=again)).double()
        results.append(outputs_and_gradients(network, double(2, 1, *SMALL.size), lambda grid: grid))
    assert torch.equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-10, atol=1e-12)


def test_in_bfloat16_the_map_is_nearly_the_same_and_gradients_are_finite():
    torch.manual_seed(0)
    network, volumes = SwinTransformer(SMALL), double(2, 1, *SMALL.size).float()
    expected = network(volumes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = network(volumes)
    got.float().square().mean().backward()
    assert float((got - expected).detach().abs().mean()) < 0.05  # of values whose spread is 1
    assert all(p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("merging", ["legacy", "v2"])
@pytest.mark.parametrize("grid", [(4, 2, 6), (3, 5, 2)])
def test_patch_merging_is_that_of_loops(merging, grid):
    features = 3
    layer = shaken(PatchMerging(features, merging))
    tokens = double(2, grid[0] * grid[1] * grid[2], features)
    merged, smaller = layer(tokens, grid)
    assert smaller == tuple(math.ceil(n / 2) for n in grid)
    places = list(itertools.product(*map(range, smaller)))
    for sample, (number, (x, y, z)) in itertools.product(range(2), enumerate(places)):
        row = []
        for i, j, k in OCTANTS[merging]:
            a, b, c = 2 * x + i, 2 * y + j, 2 * z + k
            inside = a < grid[0] and b < grid[1] and c < grid[2]
            row.append(tokens[sample, (a * grid[1] + b) * grid[2] + c] if inside else torch.zeros(features))
        row = functional.layer_norm(torch.cat(row).double(), [8 * features], layer.norm.weight, layer.norm.bias)
        torch.testing.assert_close(merged[sample, number], layer.reduction.weight @ row, rtol=0, atol=1e-12)


def test_the_old_merging_takes_two_octants_twice_and_misses_two_and_the_new_takes_each_once():
    old = OCTANTS["legacy"]
    assert [old.count(octant) for octant in ((0, 1, 0), (0, 0, 1))] == [2, 2]
    assert set(itertools.product((0, 1), repeat=3)) - set(old) == {(1, 1, 0), (0, 1, 1)}
    assert sorted(OCTANTS["v2"]) == list(itertools.product((0, 1), repeat=3))


@pytest.mark.parametrize(("grid", "window"), GRIDS)
@pytest.mark.parametrize("shifted", [False, True])
def test_every_token_has_one_place_in_the_windows(grid, window, shifted):
    layout = window_layout(grid, window, shifted, CPU)
    found = [g.tokens if g.padding is None else g.tokens[~g.padding] for g in layout.groups]
    assert sorted(torch.cat([tokens.flatten() for tokens in found]).tolist()) == list(range(math.prod(grid)))
    assert window_layout(grid, window, shifted, CPU) is layout  # made once


def test_places_are_numbered_as_in_monai():
    from monai.networks.nets.swin_unetr import WindowAttention

    for window in (2, 3, 7):
        theirs = WindowAttention(4, 1, (window,) * 3).relative_position_index
        assert torch.equal(relative_positions(window), theirs)


def test_a_sample_does_not_see_the_others_of_its_batch():
    network, volumes = shaken(SwinTransformer(ODD)).eval(), double(3, 1, *ODD.size)
    together = network(volumes)
    alone = torch.cat([network(volume[None]) for volume in volumes])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
