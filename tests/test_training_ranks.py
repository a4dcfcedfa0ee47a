"""Several ranks train as one does on the same global batch; alone, nothing is distributed."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from two_ranks import BATCH, train

from study_lib.training.ranks import Ranks


@pytest.fixture(scope="module")
def two(repository, tmp_path_factory):
    """Two gloo processes, started by torchrun."""
    out = tmp_path_factory.mktemp("ranks")
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*call, str(repository / "tests" / "two_ranks.py"), str(out)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return SimpleNamespace(
        answers=[json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1)],
        weights=[torch.load(out / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)],
    )


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with Ranks("cpu") as ranks:
        yield ranks


def test_two_ranks_end_in_the_weights_of_one_at_the_same_global_batch(two, alone):
    model, losses = train(alone)
    for weights in two.weights:
        for name, value in model.state_dict().items():
            exact = value.dtype == torch.float64
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-7 if exact else 1e-6)
    for answers in two.answers:
        assert answers["losses"] == pytest.approx(losses, rel=1e-6)
    assert losses[-1] < losses[0]


def test_ranks_hold_the_same_weights_bit_by_bit(two):
    first, second = two.weights
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_weight_that_no_rank_used_has_no_gradient_and_one_that_some_used_has(two, alone):
    model, _ = train(alone)
    assert [answers["unused_has_no_gradient"] for answers in two.answers] == [True, True]
    assert model.unused.grad is None
    for weights in two.weights:
        assert torch.equal(weights["unused"], torch.ones(2))
        assert not torch.equal(weights["early"], torch.ones(3, 2))


def test_every_rank_knows_its_place_and_gets_the_same_answers(two):
    first, second = two.answers
    assert (first["rank"], second["rank"]) == ([0, 2, "cpu", True], [1, 2, "cpu", False])
    assert (first["share"], second["share"]) == ([0, 1, 2], [3, 4, 5])
    for answers in two.answers:
        assert answers["mean"] == {"a": 0.5, "b": 2.0}
        assert answers["mean_tensor"] == [[0.5, 4.0]]
        assert answers["any"] == [True, False, True]
        assert "step: expected the same number on all ranks; got [7.0, 8.0]" in answers["disagreement"]
        assert answers["closed"]


def test_alone_nothing_is_distributed_and_everything_is_itself(alone):
    gradient = torch.randn(3)
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = gradient.clone()
    alone.mean_gradients([weight, torch.nn.Parameter(torch.zeros(1))])
    alone.agree("step", 3)
    alone.barrier()
    assert torch.equal(weight.grad, gradient)
    assert (alone.rank, alone.world, alone.is_first) == (0, 1, True)
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    assert alone.mean({"a": torch.tensor(1.5), "b": 2}) == {"a": 1.5, "b": 2.0} and alone.mean({}) == {}
    assert alone.mean(gradient) is gradient
    assert alone.any(True) is True and alone.any(False) is False
    assert not torch.distributed.is_initialized()


def test_shares_are_the_batch_cut_in_order(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares += Ranks("cpu").share(torch.arange(BATCH)).tolist()
    assert shares == list(range(BATCH))


def test_a_batch_that_cannot_be_shared_equally_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"batch of 8 cannot be shared equally by 3 ranks: choose a batch of 9"):
        Ranks("cpu").part(8)
    with pytest.raises(ValueError, match="choose a batch of 3"):
        Ranks("cpu").share([1])
