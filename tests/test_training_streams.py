"""What a step draws depends on seed, purpose, step and rank alone."""

import itertools

import numpy as np
import pytest
import torch

from study_lib.training.streams import stream, torch_stream


def test_the_numbers_are_those_written_down():
    """A change here would make runs that were stopped before it go on differently."""
    assert stream(0, "slices", 1200).integers(0, 1000, 5).tolist() == [464, 589, 919, 534, 568]
    drawn = torch.randint(0, 1000, (5,), generator=torch_stream(0, "slices", 1200))
    assert drawn.tolist() == [663, 882, 878, 560, 766]


def test_drawing_depends_on_nothing_drawn_before():
    alone = stream(1, "latent", 7).standard_normal(4)
    stream(1, "latent", 6).standard_normal(100)
    np.random.default_rng(0).random(3)
    assert np.array_equal(stream(1, "latent", 7).standard_normal(4), alone)
    with_torch = torch.randn(3, generator=torch_stream(1, "latent", 7))
    torch.randn(5)
    assert torch.equal(torch.randn(3, generator=torch_stream(1, "latent", 7)), with_torch)


@pytest.mark.parametrize("draw", ["numpy", "torch"])
def test_no_two_seeds_purposes_steps_or_ranks_draw_alike(draw):
    ranks = (None, 0, 1)
    cases = list(itertools.product((0, 1, 2**40), ("a", "b", "a1", ""), (0, 1, 11, 2**33), ranks))
    if draw == "numpy":
        drawn = {stream(*case).integers(2**62).item() for case in cases}
    else:
        drawn = {torch.randint(2**62, (1,), generator=torch_stream(*case)).item() for case in cases}
    assert len(drawn) == len(cases)


def test_neighbouring_steps_and_purposes_are_uncorrelated():
    """256 streams of 500 normal numbers: correlations as large as chance makes them."""
    drawn = np.stack([stream(3, name, step).standard_normal(500) for name in ("x", "y") for step in range(128)])
    off = np.corrcoef(drawn)[np.triu_indices(256, 1)]
    assert abs(off.std() * np.sqrt(500) - 1) < 0.05
    assert np.abs(off).max() < 6 / np.sqrt(500)
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
