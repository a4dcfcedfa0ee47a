"""The Brain Network Transformer: its readout in loops, orthonormal centres, and regions that are missing."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from cinp_lib.network_encoder import NetworkEncoder, NetworkEncoderConfig, Readout, missing_regions

SMALL = NetworkEncoderConfig(regions=15, heads=3, hidden=8, clusters=7, reduced=3, embedding=11, dropout=0.2)
EXACT = {"rtol": 0, "atol": 1e-12}


def networks(number=4, regions=15, seed=0):
    """Correlations of random series."""
    rng = torch.Generator().manual_seed(seed)
    series = torch.randn(number, regions, 40, generator=rng, dtype=torch.float64)
    return torch.stack([torch.corrcoef(one) for one in series])


def without(networks, region):
    """As `connectivity` leaves a missing region."""
    networks = networks.clone()
    networks[:, region] = 0
    networks[:, :, region] = 0
    return networks


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = NetworkEncoder(SMALL).double().eval()
    torch.nn.init.orthogonal_(encoder.readout.centres)  # to float64's last digits
    return encoder


def test_the_studys_encoder_has_768_outputs_and_the_published_sizes():
    config = NetworkEncoderConfig()
    encoder = NetworkEncoder(config).eval()
    assert encoder(networks(2, 116).float()).shape == (2, 768)
    layer, mix = encoder.layers[0], encoder.readout.mix
    assert len(encoder.layers) == 2 and not layer.norm_first
    assert (layer.self_attn.num_heads, layer.linear1.out_features, layer.dropout.p) == (4, 1024, 0.1)
    assert [part.out_features for part in mix if hasattr(part, "out_features")] == [32, 32, 116 * 116]
    assert encoder.head.in_features == 800


def test_the_readout_is_that_of_loops_over_regions_and_clusters(encoder):
    readout, regions = encoder.readout, networks()
    missing = torch.zeros(4, 15, dtype=torch.bool)
    missing[1, 3] = True
    got = readout(regions, missing)
    for sample in range(4):
        present = [[0.0 if missing[sample, r] else float(x) for x in regions[sample, r]] for r in range(15)]
        hidden = torch.tensor([x for row in present for x in row], dtype=torch.float64)
        for layer in readout.mix:
            hidden = (
                functional.leaky_relu(hidden) if not hasattr(layer, "weight") else layer.weight @ hidden + layer.bias
            )
        expected = torch.zeros(7, 15, dtype=torch.float64)
        for region in range(15):
            if missing[sample, region]:
                continue
            z = hidden[15 * region : 15 * (region + 1)]
            closeness = [float(z.detach() @ centre) ** 2 / float(centre.norm()) for centre in readout.centres]
            total = sum(math.exp(c) for c in closeness)
            for cluster, value in enumerate(closeness):
                expected[cluster] += math.exp(value) / total * z
        torch.testing.assert_close(got[sample], expected, **EXACT)


def test_centres_are_orthonormal_the_first_too_and_not_trained():
    readout = Readout(116, 100, 32)
    torch.testing.assert_close(readout.centres @ readout.centres.T, torch.eye(100), rtol=0, atol=1e-5)
    assert "centres" in readout.state_dict() and "centres" not in dict(readout.named_parameters())


def test_shares_of_a_region_add_to_one_and_of_a_missing_one_are_zero(encoder):
    shares = encoder.assignment(without(networks(), 6))
    assert shares.shape == (4, 15, 7) and (shares >= 0).all()
    expected = torch.ones(4, 15, dtype=torch.float64)
    expected[:, 6] = 0
    torch.testing.assert_close(shares.sum(-1), expected, **EXACT)


def test_a_missing_region_is_found_whatever_its_diagonal_is():
    given = without(networks(), 6)
    given[2:, 6, 6] = 1
    expected = torch.zeros(4, 15, dtype=torch.bool)
    expected[:, 6] = True
    assert torch.equal(missing_regions(given), expected)


def test_what_stands_on_a_missing_regions_diagonal_does_not_matter_and_others_rows_do(encoder):
    given, changed = without(networks(), 6), without(networks(), 6)
    given[:, 6, 6] = 1
    torch.testing.assert_close(encoder(given), encoder(changed), **EXACT)
    changed[:, 5, 4] += 0.1
    assert not torch.allclose(encoder(given), encoder(changed))


def test_a_network_does_not_see_the_others_of_its_batch(encoder):
    given = networks()
    given[1] = without(given[1:2], 6)[0]
    alone = torch.cat([encoder(one[None]) for one in given])
    torch.testing.assert_close(encoder(given), alone, **EXACT)


def test_training_and_eval_mode_agree_without_dropout():
    torch.manual_seed(0)
    encoder = NetworkEncoder(replace(SMALL, dropout=0.0)).double()
    given = without(networks(), 6)
    torch.testing.assert_close(encoder.train()(given), encoder.eval()(given).detach(), rtol=0, atol=1e-10)


def test_one_batch_can_be_learned():
    torch.manual_seed(0)
    encoder, given = NetworkEncoder(replace(SMALL, dropout=0.0)).double(), networks(6)
    wanted = torch.eye(6, 11, dtype=torch.float64)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(150):
        loss = (encoder(given) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1e-3


def test_networks_that_cannot_be_read_are_refused_by_their_number(encoder):
    broken = networks()
    broken[1, 2, 3], broken[3, 0, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"networks 1, 3 of the batch hold NaN or infinity; rows and columns"):
        encoder(broken)
    empty = networks()
    empty[2] = torch.eye(15)
    with pytest.raises(ValueError, match=r"networks 2 of the batch: every region is missing; leave them out"):
        encoder(empty)
    with pytest.raises(ValueError, match=r"expected networks of \(batch, 15, 15\), got \(4, 12, 12\)"):
        encoder(networks(4, 12))


def test_sizes_that_cannot_work_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"4 heads cannot share 90 regions equally; use 3 heads, or .* until 88"):
        NetworkEncoderConfig(regions=90, clusters=50)
    with pytest.raises(ValueError, match=r"100 centres cannot be orthogonal in 88 dimensions; use at most 88"):
        NetworkEncoderConfig(regions=88)
    with pytest.raises(ValueError, match=r"NetworkEncoderConfig.layers: expected at least 1, got 0"):
        NetworkEncoderConfig(layers=0)
    with pytest.raises(ValueError, match=r"NetworkEncoderConfig.dropout: expected 0 <= dropout < 1, got 1"):
        NetworkEncoderConfig(dropout=1.0)
