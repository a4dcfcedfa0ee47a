"""Image encoder and decoder: the study's sizes, the plain decoder's volumes, and sizes that cannot work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.plain_cinp import PlainImageBranch
from cinp_lib.image_config import ImageEncoderConfig, preset
from cinp_lib.image_decoder import doubled
from cinp_lib.image_encoder import ImageDecoder, ImageEncoder
from cinp_lib.masking import apply_mask, draw_mask

SMALL = ImageEncoderConfig(size=(32, 32, 32), features=6, heads=(1, 2, 3, 2), window=4)
EXACT = {"rtol": 0, "atol": 1e-10}


def double(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def masked(volumes, block=4):
    masks = [draw_mask(volumes.shape[2:], 0.3, block, np.random.default_rng(k)) for k in range(len(volumes))]
    return apply_mask(volumes, torch.from_numpy(np.stack(masks)))


def both(config):
    """Ours, and MONAI's parts with the same weights."""
    torch.manual_seed(0)
    encoder, decoder, plain = ImageEncoder(config).double(), ImageDecoder(config).double(), PlainImageBranch(config)
    plain.double().take(encoder, decoder)
    return encoder, decoder, plain


def test_the_studys_encoder_has_768_features_at_27_places_and_the_published_number_of_parameters():
    config = preset("paper")
    assert config.embedding == 768 and config.grids[-1] == (3, 3, 3) and config.merging == "legacy"
    with torch.device("meta"):
        encoder, decoder = ImageEncoder(config), ImageDecoder(config)
    count = sum(p.numel() for p in encoder.parameters())
    assert round(count / 1e6, 2) == 8.06
    assert [c.out_channels for c in decoder.convolutions] == [384, 192, 96, 48, 48]


@pytest.mark.parametrize("size", [(32, 32, 64), (48, 33, 20), (16, 17, 16)])
def test_one_pass_of_both_is_two_passes_through_monais_parts_and_its_decoder(size):
    config = replace(SMALL, size=size)
    encoder, decoder, plain = both(config)
    volumes = double(2, 1, *size)
    hidden = masked(volumes)
    ours, theirs = volumes.clone().requires_grad_(), volumes.clone().requires_grad_()
    seen = encoder(torch.cat([ours, hidden]))
    got = seen.pooled[:2], seen.pooled[2:], decoder(seen.grid[2:])
    expected = plain(theirs, hidden)
    assert got[2].shape == volumes.shape
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    for results in (got, expected):
        sum((r * double(*r.shape, seed=k)).sum() for k, r in enumerate(results)).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **EXACT)
    gradients = dict(plain.decoder.named_parameters())
    for name, weight in decoder.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name].grad, rtol=1e-10, atol=1e-10)


def test_pooled_features_are_the_mean_of_the_map_whose_places_have_unit_spread():
    encoder = ImageEncoder(replace(SMALL, size=(64, 32, 32))).double()
    seen = encoder(double(2, 1, 64, 32, 32))
    assert seen.grid.shape == (2, 96, 2, 1, 1)
    torch.testing.assert_close(seen.pooled, (seen.grid[..., 0, 0, 0] + seen.grid[..., 1, 0, 0]) / 2, **EXACT)
    torch.testing.assert_close(seen.grid.var(1, correction=0), torch.ones(2, 2, 1, 1).double(), rtol=0, atol=1e-3)


def test_a_1_x_1_convolution_may_come_before_or_after_doubling():
    grid, weight, bias = double(2, 5, 3, 4, 2), double(1, 5, 1, 1, 1, seed=1), double(1, seed=2)
    size = (6, 7, 4)
    after = functional.conv3d(doubled(grid, size), weight, bias)
    torch.testing.assert_close(doubled(functional.conv3d(grid, weight, bias), size), after, **EXACT)


def test_one_batch_can_be_reconstructed_better_than_by_what_its_volumes_share():
    torch.manual_seed(0)
    config = replace(SMALL, size=(20, 18, 17), depths=(1, 1, 1, 1))
    encoder, decoder = ImageEncoder(config), ImageDecoder(config)
    coarse = torch.rand(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    volumes = functional.interpolate(coarse, config.size, mode="trilinear")
    hidden = masked(volumes, block=8)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    for _ in range(200):
        loss = (decoder(encoder(hidden).grid) - volumes).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    shared = float((volumes - volumes.mean(0)).abs().mean())
    assert float(loss.detach()) < 0.6 * shared


def test_two_volumes_of_a_batch_are_seen_apart():
    encoder, decoder, _ = both(SMALL)
    volumes = double(3, 1, 32, 32, 32)
    seen = encoder(volumes)
    alone = [encoder(volume[None]) for volume in volumes]
    torch.testing.assert_close(seen.pooled, torch.cat([one.pooled for one in alone]), **EXACT)
    torch.testing.assert_close(decoder(seen.grid), torch.cat([decoder(one.grid) for one in alone]), **EXACT)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32, 31), (2, 2, 32, 32, 32), (2, 32, 32, 32)])
def test_volumes_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected volumes of \(batch, 1, 32, 32, 32\), got .*; resample or pad"):
        ImageEncoder(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": (32, 32, 15)}, r"at least 16 voxels a side, got \(32, 32, 15\)"),
        ({"size": (32, 32)}, r"size: expected 3 numbers"),
        ({"depths": (2, 2, 2)}, r"depths: expected 4 numbers of at least 1"),
        ({"depths": (2, 2, 0, 2)}, r"depths: expected 4 numbers of at least 1"),
        ({"heads": (4, 6, 12, 24)}, r"heads: 4 heads cannot share 6 features equally"),
        ({"embedding": 768}, r"6 features give 96 pooled ones, got 768; .* embedding / 16"),
        ({"merging": "v3"}, r"merging: expected legacy or v2, got 'v3'"),
        ({"window": 1}, r"window of at least 2 tokens"),
        ({"dropout": 1.0}, r"dropout: expected 0 <= dropout < 1, got 1"),
        ({"drop_path": -0.1}, r"drop_path: expected 0 <= drop_path < 1, got -0.1"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_what_to_do(changes, text):
    with pytest.raises(ValueError, match=text):
        replace(SMALL, **changes)


def test_presets_are_known_by_their_profiles():
    assert {preset(name).embedding for name in ("smoke", "demo")} == {192}
    with pytest.raises(KeyError, match="expected one of smoke, demo, paper, got 'full'"):
        preset("full")
