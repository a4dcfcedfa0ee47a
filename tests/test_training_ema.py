"""The average follows the weights by the book, from the moment it is made."""

import pytest
import torch
from torch import nn

from study_lib.training.ema import Ema


def net(seed=0):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1)).double()
    layers[2].weight = nn.Parameter(layers[2].weight.detach().to(memory_format=torch.channels_last))
    return layers


def move(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
        module[1].running_mean += 1
        module[1].num_batches_tracked += 1


@pytest.mark.parametrize("warm_up", [False, True])
def test_the_average_is_that_of_the_plain_recursion(warm_up):
    source = net()
    ema = Ema(source, decay=0.9, warm_up=warm_up)
    expected = {name: value.detach().clone() for name, value in source.named_parameters()}
    for n in range(95):
        move(source)
        ema.update()
        decay = min(0.9, (1 + n) / (10 + n)) if warm_up else 0.9
        for name, value in source.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, value in ema.module.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    assert torch.equal(ema.module[1].running_mean, source[1].running_mean)
    assert ema.module[1].num_batches_tracked.item() == 95


def test_it_starts_from_the_weights_of_the_moment_it_is_made():
    source = net()
    move(source)
    ema = Ema(source, decay=0.999)
    move(source)
    fresh = net()
    move(fresh)
    assert all(torch.equal(a, b) for a, b in zip(ema.module.parameters(), fresh.parameters(), strict=True))


def test_the_copy_is_frozen_in_eval_mode_and_leaves_the_source_alone():
    source = net().train()
    ema = Ema(source, decay=0.5)
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert not any(layer.training for layer in ema.module.modules())
    assert all(parameter.requires_grad for parameter in source.parameters()) and source.training
    before = [parameter.detach().clone() for parameter in source.parameters()]
    ema.update()
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), before, strict=True))


def test_it_goes_on_from_its_state_with_its_warm_up():
    source, other = net(), net(1)
    whole, half = Ema(source, 0.9, warm_up=True), Ema(source, 0.9, warm_up=True)
    for _ in range(3):
        move(source)
        whole.update()
        half.update()
    resumed = Ema(other, 0.9, warm_up=True)
    resumed.load_state_dict(half.state_dict())
    other.load_state_dict(source.state_dict())
    whole.update()
    resumed.update()
    pairs = zip(whole.module.state_dict().values(), resumed.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert resumed.updates == 4


def test_a_module_that_shares_weights_is_averaged_once():
    source = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    source[1].weight = source[0].weight
    ema = Ema(source, decay=0.5)
    start = source[0].weight.detach().clone()
    with torch.no_grad():
        source[0].weight += 4
    ema.update()
    assert ema.module[0].weight is ema.module[1].weight
    torch.testing.assert_close(ema.module[0].weight.detach(), start + 2)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="decay: expected a number from 0 to below 1"):
        Ema(net(), decay)


def test_weights_too_coarse_to_average_are_refused():
    with pytest.raises(ValueError, match=r"expected float32 weights; weight is not"):
        Ema(nn.Linear(2, 2).bfloat16(), 0.999)
