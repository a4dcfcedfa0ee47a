"""Masks hide the share they should, in blocks, and come again from their seed."""

import numpy as np
import pytest
import torch

from cinp_lib.masking import apply_mask, draw_mask


def draw(size, share=0.3, block=4, seed=0):
    return draw_mask(size, share, block, np.random.default_rng(seed))


@pytest.mark.parametrize(("size", "block"), [((96, 96, 96), 16), ((32, 32, 32), 4), ((9, 11, 14), 3), ((13, 7, 8), 1)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_the_share_of_hidden_voxels_is_right_to_half_a_block(size, block, share):
    for seed in range(5):
        hidden = draw(size, share, block, seed)
        assert hidden.shape == size and hidden.dtype == bool
        assert abs(hidden.sum() - share * hidden.size) <= block**3 / 2


def test_blocks_are_hidden_or_seen_as_a_whole():
    size, block = (9, 11, 14), 4
    hidden = draw(size, block=block)
    for x in range(0, size[0], block):
        for y in range(0, size[1], block):
            for z in range(0, size[2], block):
                assert len(np.unique(hidden[x : x + block, y : y + block, z : z + block])) == 1


def test_the_same_seed_hides_the_same_voxels_and_another_one_others():
    assert np.array_equal(draw((16, 16, 16)), draw((16, 16, 16)))
    assert not np.array_equal(draw((16, 16, 16)), draw((16, 16, 16), seed=1))


def test_every_voxel_is_hidden_as_often_as_any_other():
    often = np.mean([draw((8, 8, 8), block=2, seed=seed) for seed in range(2000)], axis=0)
    assert np.abs(often - 19 / 64).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)  # 19 of 64 blocks come nearest to 0.3


@pytest.mark.parametrize("axes", [(2, 5, 6, 7), (2, 1, 5, 6, 7)])
def test_hidden_voxels_are_filled_and_the_others_stay(axes):
    volumes = torch.randn(2, 1, 5, 6, 7)
    masks = torch.rand(axes) < 0.4
    noise = torch.randn_like(volumes)
    for fill in (0.0, -1.5, noise):
        got = apply_mask(volumes, masks, fill)
        for index in np.ndindex(2, 5, 6, 7):
            sample, *place = index
            hidden = masks[index] if masks.ndim == 4 else masks[(sample, 0, *place)]
            filled = fill[(sample, 0, *place)] if torch.is_tensor(fill) else fill
            assert got[(sample, 0, *place)] == (filled if hidden else volumes[(sample, 0, *place)])


def test_what_makes_no_mask_is_refused():
    with pytest.raises(ValueError, match="expected a numpy Generator as rng"):
        draw_mask((8, 8, 8))
    with pytest.raises(ValueError, match="share of voxels from 0 to below 1, got 30"):
        draw((8, 8, 8), share=30)
    with pytest.raises(ValueError, match="block of 1 to 6 voxels a side, got 16"):
        draw((8, 6, 8), block=16)
    with pytest.raises(ValueError, match=r"one for every volume of \(2, 1, 4, 4, 4\), got torch.bool of \(1, 1, 4"):
        apply_mask(torch.zeros(2, 1, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"got torch\.float32"):
        apply_mask(torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 4, 4, 4))
