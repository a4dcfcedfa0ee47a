"""Random changes: what stays, what is drawn, and that the same seed draws the same."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from small_cinp import STILL
from small_pairs import head, network, people

from cinp_lib.augmentation import AugmentationConfig, augmented_networks, augmented_volumes, replayed
from cinp_lib.presets import PRESETS

CPU = torch.device("cpu")
GROUP = people(6)
VOLUMES = torch.from_numpy(np.stack([head(person)[0] for person in GROUP]))[:, None].double() / 1000
NETWORKS = torch.from_numpy(np.stack([network(person) for person in GROUP])).double()


def changed(function, values, seed=0, **settings):
    with replayed(seed, CPU):
        return function(values, replace(STILL, **settings))


def test_without_any_change_everything_stays_bit_by_bit():
    assert torch.equal(changed(augmented_volumes, VOLUMES), VOLUMES)
    assert torch.equal(changed(augmented_networks, NETWORKS), NETWORKS)


@pytest.mark.parametrize(
    "settings", [{"noise": 0.2}, {"scale": 0.3}, {"shift": 0.3}, {"flip": 0.5, "flip_axes": (0, 1, 2)}]
)
def test_the_background_stays_0_and_every_volume_changes_by_itself(settings):
    found = changed(augmented_volumes, VOLUMES, seed=3, **settings)
    inside = found != 0
    assert abs(int(inside.sum()) - int((VOLUMES != 0).sum())) <= 2
    if "flip" not in settings:
        assert (found[VOLUMES == 0] == 0).all()
    differences = (found - VOLUMES).flatten(1).abs().sum(1)
    assert len(set(differences.tolist())) > 1


def test_scale_and_shift_are_one_factor_and_one_sum_for_each_volume_within_their_limits():
    found = changed(augmented_volumes, VOLUMES, scale=0.2, shift=0.1)
    for before, after in zip(VOLUMES, found, strict=True):
        inside = before != 0
        x, y = before[inside].numpy(), after[inside].numpy()
        slope, intercept = np.polyfit(x, y, 1)
        np.testing.assert_allclose(slope * x + intercept, y, atol=1e-9)
        assert 0.8 <= slope <= 1.2 and -0.1 <= intercept <= 0.1


def test_a_flip_mirrors_the_named_axes_only():
    found = changed(augmented_volumes, VOLUMES, flip=0.5, flip_axes=(0,))
    mirrored = [torch.equal(one, before.flip(1)) for one, before in zip(found, VOLUMES, strict=True)]
    kept = [torch.equal(one, before) for one, before in zip(found, VOLUMES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True)) and any(mirrored) and any(kept)


@pytest.mark.parametrize("settings", [{"edge_noise": 0.3}, {"edge_dropout": 0.4}])
def test_networks_stay_symmetric_with_their_diagonal_and_their_missing_regions(settings):
    networks = NETWORKS.clone()
    networks[2, 3], networks[2, :, 3] = 0, 0
    found = changed(augmented_networks, networks, **settings)
    torch.testing.assert_close(found, found.mT, rtol=0, atol=0)
    assert torch.equal(found.diagonal(dim1=1, dim2=2), networks.diagonal(dim1=1, dim2=2))
    assert (found[2, 3] == 0).all() and (found[2, :, 3] == 0).all()
    assert not torch.equal(found, networks)


def test_noise_and_dropout_on_edges_are_as_large_as_they_say():
    networks = torch.full((200, 8, 8), 0.5).double()
    upper = np.triu_indices(8, 1)
    noise = (changed(augmented_networks, networks, edge_noise=0.3) - networks)[:, *upper]
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)
    dropped = changed(augmented_networks, networks, edge_dropout=0.25)[:, *upper] == 0
    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=0.03)


def test_the_same_seed_draws_the_same_and_nothing_outside_is_moved():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    settings = {"noise": 0.1, "scale": 0.1, "shift": 0.1, "flip": 0.5}
    first, second = (changed(augmented_volumes, VOLUMES, 1, **settings) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, changed(augmented_volumes, VOLUMES, 2, **settings))
    assert torch.equal(torch.rand(3), expected)


def test_left_and_right_are_exchanged_in_the_study_and_never_in_the_small_presets():
    """Networks are lateralised: their regions keep their sides."""
    assert PRESETS["paper"].training.augmentation.flip > 0
    assert PRESETS["demo"].training.augmentation.flip == PRESETS["smoke"].training.augmentation.flip == 0


def test_settings_without_sense_are_refused():
    for field in fields(AugmentationConfig):
        if field.name != "flip_axes":
            with pytest.raises(ValueError, match=rf"AugmentationConfig.{field.name}: expected .* got -1"):
                AugmentationConfig(**{field.name: -1})
    with pytest.raises(ValueError, match=r"flip_axes: expected axes of 0, 1, 2, got \(3,\)"):
        AugmentationConfig(flip_axes=(3,))
