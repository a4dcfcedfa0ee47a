"""Means between records survive a restart to the last bit; settings that changed are named."""

import json

import torch

from study_lib.training.records import Sums, changed_settings, records_table

CPU = torch.device("cpu")


def losses(step):
    found = {"always": torch.tensor(0.1 * step, requires_grad=True)}
    return found | ({"sometimes": torch.tensor(step / 3, dtype=torch.float64)} if step % 3 == 0 else {})


def test_means_are_over_the_steps_that_had_the_loss():
    sums = Sums()
    for step in range(1, 8):
        sums.add(losses(step))
    expected = sum(float(torch.tensor(0.1 * step)) for step in range(1, 8)) / 7
    assert sums.means() == {"always": expected, "sometimes": (3 / 3 + 6 / 3) / 2}


def test_sums_come_back_from_json_to_the_last_bit():
    sums, whole = Sums(), Sums()
    for step in range(1, 12):
        whole.add(losses(step))
        sums.add(losses(step))
        sums = Sums.of(json.loads(json.dumps(sums.state_dict())), CPU)
    assert sums.means() == whole.means()


def test_a_table_of_records_has_one_order_of_columns():
    records = [{"iteration": 1, "loss": 1.0, "error": 2.0}, {"iteration": 2, "loss": 0.5}]
    assert list(records_table(records)) == ["iteration", "error", "loss"]
    assert list(records_table([{"loss": 1.0, "error": 2.0, "iteration": 1}])) == ["iteration", "error", "loss"]


def test_changed_settings_are_named_by_their_place_but_for_the_free_ones():
    saved = {"rate": 1e-3, "save_every": 5, "model": {"width": 8, "depths": [2, 2]}, "gone": 1}
    now = {"rate": 1e-3, "save_every": 9, "model": {"width": 16, "depths": [2, 2]}, "new": None}
    assert changed_settings(saved, now) == ["gone was 1, is None", "model.width was 8, is 16"]
    assert changed_settings(saved, now, free=("gone", "width", "save_every")) == []
