"""Where and how precisely to compute; and what importing the ground of training costs."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import study_lib.training
from study_lib.training.device import Precision, deterministic, pick_device, set_threads

ABSENT = f"cuda:{torch.cuda.device_count()}"


@pytest.fixture
def as_before():
    """Process-wide settings are put back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory = benchmark, fill


def test_auto_takes_the_gpu_where_there_is_one():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "words"), [("mps", "expected auto, cpu, cuda"), (ABSENT, "GPUs here; use `cpu`")])
def test_a_device_that_is_not_there_is_refused_with_what_to_do(name, words):
    with pytest.raises(ValueError, match=words):
        pick_device(name)


def test_bf16_computes_in_bfloat16_and_keeps_the_weights():
    layer, images = torch.nn.Conv2d(1, 2, 3), torch.randn(1, 1, 5, 5)
    with Precision("bf16").autocast("cpu"):
        coarse = layer(images)
    with Precision("float32").autocast(torch.device("cpu")):
        fine = layer(images)
    assert (coarse.dtype, fine.dtype, layer.weight.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(coarse.float(), fine, rtol=0.03, atol=0.03)


def test_a_precision_of_another_name_is_refused():
    with pytest.raises(ValueError, match="expected float32 or bf16; got 'fp16'"):
        Precision("fp16")


def test_threads_are_set_and_told(as_before):
    assert set_threads(2) == 2 == set_threads()
    with pytest.raises(ValueError, match="at least 1; got 0"):
        set_threads(0)


def test_deterministic_runs_are_equal_bit_by_bit(as_before):
    def run():
        notes = deterministic(5)
        layer = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 9, 3))
        layer(torch.randn(6, 2, 5, 5)).square().mean().backward()
        table = torch.zeros(4, requires_grad=True)
        table[torch.randint(0, 4, (5000,))].square().sum().backward()
        return notes, [p.grad.clone() for p in layer.parameters()], np.random.rand(), random.random()  # noqa: NPY002

    one, other = run(), run()
    assert one[0] == other[0] and one[2:] == other[2:]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert (one[0]["seed"], one[0]["threads"]) == ("5", str(torch.get_num_threads()))


def test_importing_the_ground_costs_no_torch_until_a_name_needs_it():
    script = (
        "import sys, study_lib.run, study_lib.training as training; assert 'torch' not in sys.modules; "
        "training.Interruption, training.stream; assert 'torch' not in sys.modules; "
        "training.Ema; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_every_name_is_there_and_no_other():
    for name in study_lib.training.__all__:
        assert getattr(study_lib.training, name) is not None
    assert sorted(study_lib.training.__all__) == sorted(study_lib.training._HOME)
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = study_lib.training.Trainer
