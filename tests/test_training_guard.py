"""A loss that is no number stops training, with step, sites and subjects."""

import math
import pickle

import pytest
import torch

from study_lib.training.guard import NonFiniteLoss, check_finite


def test_finite_parts_pass_whatever_they_are():
    check_finite({"r1": torch.tensor(0.0), "cycle": 1.5, "map": torch.zeros(3, 2), "n": torch.tensor(3)}, 1, "SMC/s01")
    check_finite({"big": torch.tensor(3e38), "half": torch.tensor(1.0).bfloat16(), "none": torch.zeros(0)}, 1, [])
    check_finite({}, 1, "SMC/s01")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "kind", [float, torch.tensor, lambda value: torch.tensor([1.0, value, 2.0], requires_grad=True)]
)
def test_every_part_that_is_not_finite_is_named_with_step_and_place(value, kind):
    parts = {"cycle": torch.tensor(1.0), "r1": kind(value), "style": 0.5, "adversarial": kind(value)}
    with pytest.raises(NonFiniteLoss) as caught:
        check_finite(parts, 417, ["SMC/s01", "ADNI/s07"])
    error = caught.value
    assert set(error.parts) == {"r1", "adversarial"}
    assert (error.step, error.where) == (417, ["SMC/s01", "ADNI/s07"])
    for words in ("step 417", f"r1 = {value}", "adversarial = ", "SMC/s01, ADNI/s07", "lower the learning rate"):
        assert words in str(error)
    assert "cycle" not in str(error) and "style" not in str(error)


def test_a_long_batch_is_cut_in_the_message_and_whole_in_the_error():
    places = [f"GMC/s{n:03d}" for n in range(100)]
    with pytest.raises(FloatingPointError, match="s015 and 84 more") as caught:
        check_finite({"loss": math.nan}, 0, places)
    assert caught.value.where == places


def test_the_error_survives_a_process_boundary():
    with pytest.raises(NonFiniteLoss) as caught:
        check_finite({"loss": math.inf}, 3, "SMC/s01")
    back = pickle.loads(pickle.dumps(caught.value))
    assert (str(back), back.parts, back.step, back.where) == (str(caught.value), {"loss": math.inf}, 3, ["SMC/s01"])
