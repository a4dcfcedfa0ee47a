"""What training holds goes into flat tensors and plain numbers, and comes back so that training cannot tell."""

import copy

import pytest
import torch
from torch import nn

from study_lib.training.checkpoints import Checkpoints
from study_lib.training.ema import Ema
from study_lib.training.packing import pack, unpack


class Net(nn.Module):
    """Convolutions in channels-last, a buffer, a single number, and a weight that is never used."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.scale, self.unused = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.ones(2))
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        return self.scale * self.norm(self.conv(images)).square().mean()


OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.0, 0.99), weight_decay=1e-4),
    "foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "fused_adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(kind, seed=0):
    torch.manual_seed(seed)
    net = Net()
    optimiser = OPTIMISERS[kind](net.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    return {"net": net, "optimiser": optimiser, "schedule": schedule, "ema": Ema(net, 0.9)}


def train(parts, steps):
    for step in steps:
        images = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(step))
        parts["optimiser"].zero_grad()
        parts["net"](images.to(memory_format=torch.channels_last)).backward()
        parts["optimiser"].step()
        parts["schedule"].step()
        parts["ema"].update()


def assert_equal(parts, others):
    (tensors, numbers), (expected, expected_numbers) = pack(parts), pack(others)
    assert numbers == expected_numbers
    assert set(tensors) == set(expected)
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_training_that_was_stopped_half_way_ends_bit_by_bit_where_the_other_does(tmp_path, kind):
    whole = start(kind)
    train(whole, range(10))
    first = start(kind)
    train(first, range(5))
    tensors, numbers = pack(first)
    Checkpoints(tmp_path).save(5, tensors, {"parts": numbers})
    second = start(kind, seed=99)
    back = Checkpoints(tmp_path).latest()
    unpack(second, back.tensors, back.state["parts"])
    train(second, range(5, 10))
    assert_equal(second, whole)
    changed = start(kind)
    train(changed, range(9))
    assert not torch.equal(changed["net"].conv.weight, whole["net"].conv.weight)


@pytest.mark.parametrize("kind", ["adam", "fused"])
def test_moments_come_back_in_the_layout_of_their_parameter(kind):
    parts, fresh = start(kind), start(kind)
    train(parts, range(2))
    tensors, numbers = pack(parts)
    unpack(fresh, {name: value.contiguous() for name, value in tensors.items()}, numbers)
    weight = fresh["net"].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert fresh["optimiser"].state[weight]["exp_avg"].stride() == weight.stride()


def test_parameters_without_a_gradient_stay_without_state():
    parts, fresh = start("adam"), start("adam")
    train(parts, range(2))
    unpack(fresh, *pack(parts))
    assert fresh["net"].unused not in fresh["optimiser"].state
    assert len(fresh["optimiser"].state) == 5


def test_what_is_loaded_is_a_copy():
    parts, fresh = start("fused"), start("fused")
    train(parts, range(2))
    tensors, numbers = pack(parts)
    tensors = {name: value.clone() for name, value in tensors.items()}
    before = copy.deepcopy((tensors, numbers))
    unpack(fresh, tensors, numbers)
    train(fresh, range(2, 4))
    assert numbers == before[1]
    assert [name for name in tensors if not torch.equal(tensors[name], before[0][name])] == []


def test_numbers_come_from_the_checkpoint_and_ways_to_compute_from_now():
    net = Net()
    saved = torch.optim.Adam(net.parameters(), lr=0.25, betas=(0.5, 0.75), fused=True)
    now = torch.optim.Adam(net.parameters(), lr=0.01, foreach=True)
    unpack({"adam": now}, *pack({"adam": saved}))
    (group,) = now.param_groups
    assert (group["lr"], group["betas"], group["foreach"], group["fused"]) == (0.25, (0.5, 0.75), True, None)


def test_everything_that_does_not_fit_is_named_at_once_and_nothing_changes():
    parts = start("adam")
    train(parts, range(2))
    tensors, numbers = copy.deepcopy(pack(parts))
    tensors["net/other"] = tensors.pop("net/scale")
    tensors["net/conv.weight"] = tensors["net/conv.weight"][:4]
    tensors["net/conv.bias"] = tensors["net/conv.bias"].double()
    tensors["optimiser/0/exp_avg"] = torch.zeros(3)
    del tensors["optimiser/2/exp_avg_sq"], numbers["schedule"]
    tensors["critic/weight"] = torch.zeros(1)
    numbers["critic"] = {}
    del numbers["ema"]["updates"]
    fresh = start("adam", seed=1)
    before = copy.deepcopy(pack(fresh))
    with pytest.raises(ValueError) as caught:
        unpack(fresh, tensors, numbers)
    message = str(caught.value)
    for words in (
        "unexpected critic/weight",
        "unexpected critic;",
        "missing scale in net",
        "unexpected other in net",
        "conv.weight: expected float32 (8, 3, 3, 3), got float32 (4, 3, 3, 3) in net",
        "conv.bias: expected float32 (8,), got float64 (8,) in net",
        "0/exp_avg: expected the parameter's shape (), got (3,) in optimiser",
        "missing 2/exp_avg_sq in optimiser",
        "missing everything in schedule",
        "missing updates in ema",
    ):
        assert words in message
    after = pack(fresh)
    assert after[1] == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in after[0].items())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: torch.optim.AdamW(p), "expected AdamW, got Adam"),
        (lambda p: torch.optim.Adam(p[:-1]), r"parameters in each group: expected \[5\], got \[6\]"),
        (lambda p: torch.optim.Adam([{"params": p[:2]}, {"params": p[2:]}]), r"expected \[2, 4\], got \[6\]"),
    ],
)
def test_an_optimiser_of_another_making_is_refused(make, words):
    saved = pack({"adam": torch.optim.Adam(Net().parameters())})
    with pytest.raises(ValueError, match=words):
        unpack({"adam": make(list(Net().parameters()))}, *saved)


def test_parts_can_be_taken_alone_when_asked_for():
    parts, fresh = start("adam"), start("adam", seed=1)
    saved = pack(parts)
    with pytest.raises(ValueError, match=r"unexpected net/conv\.weight"):
        unpack({"ema": fresh["ema"]}, *saved)
    unpack({"ema": fresh["ema"]}, *saved, whole=False)
    assert torch.equal(fresh["ema"].module.conv.weight, parts["net"].conv.weight)
    assert not torch.equal(fresh["net"].conv.weight, parts["net"].conv.weight)


def test_a_part_may_not_be_named_like_a_path():
    with pytest.raises(ValueError, match="without '/'"):
        pack({"a/b": Net()})
