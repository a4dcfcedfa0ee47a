"""Voxels by their distance from the training volumes' mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import CALM
from small_pairs import PAIRS

from cinp_lib.model import Cinp
from cinp_lib.voxel_standardiser import LEAST_DEVIATION, VoxelStandardiser

SIZE = (3, 4, 5)


def volumes(number=7, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.2, 1.0, (number, *size)).astype(np.float32)
    drawn[:, 0, 0, 0] = 0.0  # nobody's brain
    drawn[: number // 2 - 1, 0, 0, 1] = 0.0  # most people's
    drawn[: number // 2 + 2, 0, 0, 2] = 0.0  # few people's
    drawn[:, 1, 1, 1] = 0.5  # always alike
    return drawn


def fitted(own, batch=3):
    return VoxelStandardiser(own.shape[1:]).fit(own[start : start + batch] for start in range(0, len(own), batch))


def test_every_voxel_has_its_own_mean_and_deviation():
    own, given = volumes(), torch.from_numpy(volumes(2, seed=1))[:, None]
    standard = fitted(own)(given).numpy()
    for place in np.ndindex(SIZE):
        values = own[(slice(None), *place)].astype(float)
        for number in range(2):
            deviation = max(values.std(), LEAST_DEVIATION)
            wanted = (
                (float(given[(number, 0, *place)]) - values.mean()) / deviation if (values != 0).mean() >= 0.5 else 0
            )
            assert standard[(number, 0, *place)] == pytest.approx(wanted, abs=1e-5)
    assert (standard[:, 0, 0, 0, [0, 2]] == 0).all() and (standard[:, 0, 0, 0, 1] != 0).all()


def test_back_in_their_own_units_volumes_are_what_they_were_where_brains_are():
    own = volumes()
    standardiser, given = fitted(own), torch.from_numpy(own)[:, None]
    there = torch.where(standardiser.common, given, torch.zeros_like(given))
    torch.testing.assert_close(standardiser.restore(standardiser(given)), there)


def test_the_size_of_batches_changes_nothing():
    whole, parts = fitted(volumes(), 7), fitted(volumes(), 2)
    for name, values in whole.state_dict().items():
        assert torch.equal(values, parts.state_dict()[name])


def test_without_statistics_nothing_is_standardised():
    with pytest.raises(ValueError, match="expected statistics of training volumes, got none"):
        Cinp(replace(CALM, voxelwise=True)).eval().embed_images(torch.rand(2, 1, *PAIRS.size))
    with pytest.raises(ValueError, match="expected at least two training volumes, got 1"):
        fitted(volumes(1))
    broken = volumes()
    broken[3, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="training volumes hold NaN or infinity"):
        fitted(broken)


def test_a_head_like_the_mean_shows_the_encoder_nothing_and_an_empty_prediction_is_the_mean():
    own = volumes(6, PAIRS.size)
    model = Cinp(replace(CALM, voxelwise=True)).eval()
    model.voxels.fit([own])
    mean = torch.from_numpy(own.mean(0))[None, None]
    nothing = model.image_encoder(torch.zeros(1, 1, *PAIRS.size)).pooled
    torch.testing.assert_close(model.see(mean, None).features, nothing, atol=1e-4, rtol=1e-4)
    masks = torch.ones(1, 1, *PAIRS.size, dtype=torch.bool)
    model.decoder.register_forward_hook(lambda module, given, made: torch.zeros_like(made))
    there = torch.where(model.voxels.common, mean, torch.zeros_like(mean))
    torch.testing.assert_close(model.see(mean, masks).reconstructions, there)
