"""The GAN's benchmarks compare what they say they compare, and run from end to end on the smallest networks."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from small_gan import TRAINING, training_for, write_stores

from benchmarks import gan_scaling, gan_schedules
from benchmarks.__main__ import main, settings_of
from benchmarks.gan import table
from benchmarks.gan_schedules import SCHEDULES, Budget, all_curves, keep, numbers
from benchmarks.gan_ways import WAYS, Trainer, batch_of, config_of, plain_networks
from gan_lib.training_data import TrainingData

TINY = {name: replace(way, networks="tiny") for name, way in WAYS.items()}


@pytest.mark.parametrize("name", WAYS)
def test_every_way_takes_its_steps(name):
    trainer = Trainer(TINY[name])
    first, second = trainer.step(), trainer.step()
    assert all(math.isfinite(float(value)) for value in (first | second).values())
    assert ("r1" in second) == (WAYS[name].r1_every == 1)
    assert trainer.seconds(1) > 0


def test_the_plain_step_and_ours_begin_alike_and_have_the_same_losses():
    # At rate 0 no update comes between the losses: one of Adam's has the size of the rate however small the gradient,
    # so that rounding alone would move the losses after it. Gradients are compared in tests/test_gan_train_step.py.
    still = {"learning_rate": 0.0, "mapping_rate": 0.0, "discriminator_rate": 0.0}
    ours, plain = Trainer(TINY["separate"], **still), Trainer(TINY["plain"], **still)
    pairs = zip(ours.state.networks.parameters(), plain.plain.networks.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    one, other = ours.step(), plain.step()
    assert one.keys() == other.keys()
    for name in one:
        assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-4), name


def test_the_plain_networks_take_the_weights_of_the_demo_s():
    assert plain_networks(config_of(WAYS["plain"])).generator.position is True


def test_all_ways_have_the_demo_s_losses_and_networks():
    configs = {name: config_of(way) for name, way in WAYS.items()}
    assert len({config.networks for config in configs.values()}) == 1
    assert len({replace(config.step.weights, r1_every=1) for config in configs.values()}) == 1
    assert configs["plain"] == configs["separate"]


def test_slices_are_counted_as_often_as_they_pass_all_losses_in_both_kinds_of_styles():
    slices = {name: way.slices for name, way in WAYS.items()}
    assert slices["plain"] == slices["separate"] == slices["merged_lazy"] == 4
    assert slices["alternating_lazy_bf16"] == 2
    assert slices["alternating_lazy_bf16_joined"] == 4


def test_the_batch_lies_as_the_sampler_s_does():
    batch = batch_of((16, 24), 3, 2)
    assert batch.images.shape == (3, 1, 16, 24) and batch.images.stride() == (384, 1, 24, 1)
    assert not batch.images[~batch.masks].any() and batch.masks.any() and not batch.masks.all()


@pytest.mark.slow
def test_the_table_has_every_way_beside_the_plain_one():
    ways = {name: TINY[name] for name in ("plain", "merged_lazy")}
    found = table(ways, rounds=2, steps=2)
    assert found["plain_times_plain"] == found["plain_peak_times_plain"] == 1
    assert all(value > 0 for value in found.values()) and len(found) == 10


def test_a_cost_that_is_linear_has_exponent_1_and_a_quadratic_one_2():
    slices = pd.Series([2, 4, 8, 16])
    assert gan_scaling.exponent(pd.DataFrame({"slices": slices, "seconds": 0.3 * slices})) == 1
    assert gan_scaling.exponent(pd.DataFrame({"slices": slices, "seconds": 0.1 * slices**2})) == 2


def test_scaling_writes_its_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(gan_scaling, "BATCHES", (1, 2))
    monkeypatch.setattr(gan_scaling, "SLICES", (1, 2))
    found = gan_scaling.scaling(2, tmp_path, "tiny")
    assert found.keys() == {"training_step_exponent", "translation_exponent"}
    curves = pd.read_csv(tmp_path / "gan_scaling.csv")
    assert curves.groupby("what")["slices"].apply(list).to_dict() == {"training_step": [1, 2], "translation": [1, 2]}
    assert (tmp_path / "gan_scaling.png").stat().st_size > 1000


def test_schedules_are_trained_side_by_side_from_the_same_weights(tmp_path):
    training, validation = write_stores(tmp_path)
    data = TrainingData(training, validation, training.table)
    base = training_for(training, step=replace(TRAINING.step, neighbours_join=True))
    curves = all_curves(data, base, Budget(seconds=0.2, seeds=1, looks=2, turn=1))
    assert curves.groupby("schedule").size().to_dict() == dict.fromkeys(SCHEDULES, 3)
    begin = curves[curves["iteration"] == 0]
    assert len(begin) == 3 and len({*begin["error"]}) == 1
    last = curves.groupby("schedule").last()
    assert (last["seconds"] >= 0.2).all() and (last["seconds"] < 5).all()
    found = keep(curves, tmp_path)
    assert all(math.isfinite(value) for value in found.values())
    assert len(pd.read_csv(tmp_path / "gan_schedules.csv")) == len(curves)
    assert (tmp_path / "gan_schedules.png").stat().st_size > 1000


def test_time_is_taken_to_the_lowest_error_that_all_schedules_reach():
    errors = {
        "plain_order": [1.0, 0.6, 0.5, 0.55],
        "merged_lazy": [1.0, 0.5, 0.3, 0.2],
        "alternating_lazy": [1, 0.8, 0.45, 0.4],
    }
    rows = [
        {"schedule": name, "seed": seed, "seconds": 10.0 * look, "error": error}
        for seed in (0, 1)
        for name, run in errors.items()
        for look, error in enumerate(run)
    ]
    found = numbers(pd.DataFrame(rows))
    assert found["plain_order_seconds_to_common_error"] == 20
    assert found["merged_lazy_seconds_to_common_error"] == 10
    assert found["plain_order_times_merged_lazy"] == 2
    assert found["plain_order_times_alternating_lazy"] == 1
    assert found["merged_lazy_last_error"] == 0.2


def test_schedules_differ_in_nothing_but_updates_and_r1():
    base = gan_schedules.preset("demo").training
    configs = [gan_schedules.config_of(base, name, 5) for name in SCHEDULES]
    level = {replace(c.step, schedule="merged", weights=replace(c.step.weights, r1_every=1)) for c in configs}
    assert len(level) == 1 and len({replace(c, step=base.step) for c in configs}) == 1


def test_settings_are_read_from_the_command_line_and_strange_ones_refused(capsys):
    assert settings_of(["seconds=2.5", "seeds=1"]) == {"seconds": 2.5, "seeds": 1}
    assert main(["gan_schedules", "seconds"]) == 2
    assert "NAME=NUMBER" in capsys.readouterr().err
    assert main(["gan_schedules", "minutes=2"]) == 2
    assert "expected settings among seconds, seeds; got minutes" in capsys.readouterr().err
    assert main(["nothing"]) == 2
