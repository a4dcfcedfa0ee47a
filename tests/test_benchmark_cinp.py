"""CINP's benchmark compares equal mathematics, and runs from end to end on the smallest networks."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import cinp, cinp_projection
from benchmarks.cinp_ways import SIZES, Trainer, Way, config_of, store_of
from cinp_lib.presets import preset
from cinp_lib.pretrain import batch_gradients

TINY = Way("tiny")


def both(way):
    """Ours and the plain one in float64, where losses and gradients can be told apart from rounding."""
    ours, plain = Trainer(way), Trainer(replace(way, plain=True))
    ours.model.double().train(), plain.model.double().train()
    return ours, plain


def plain_name(name):
    """That of a parameter of ours in the plain model."""
    name = name.replace("image_encoder.swin.", "image_branch.encoder.")
    return name.replace("decoder.", "image_branch.decoder.") if name.startswith("decoder.") else name


@pytest.mark.parametrize("way", [TINY, Way("tiny", batch=7), Way("tiny", chunk=4), Way("demo", batch=4)])
def test_our_step_has_the_losses_and_every_gradient_of_the_plain_one(way):
    """With augmentation, dropout of networks and features, masks; in chunks what is random is drawn chunk by chunk."""
    ours, plain = both(way)
    if way.chunk == 4:
        still(ours.state), still(plain.plain)
    parts = batch_gradients(ours.state, ours.store, ours.places, ours.ranks)
    loss, expected = plain.plain.losses(plain.store, plain.places)
    loss.backward()
    for name, value in expected.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=1e-9), name
    gradients = gradients_of(plain.model)
    for name, gradient in gradients_of(ours.model).items():
        torch.testing.assert_close(gradient, gradients.pop(plain_name(name)), rtol=1e-7, atol=1e-9, msg=name)
    biases = {f"image_branch.decoder.convolutions.{k}.bias" for k in range(5)}  # ours has none
    assert gradients.keys() == biases


def gradients_of(model):
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def still(trainer):
    """Without anything random but masks and strangers."""
    off = replace(trainer.config.augmentation, noise=0.0, scale=0.0, shift=0.0, edge_noise=0.0, edge_dropout=0.0)
    trainer.config = replace(trainer.config, augmentation=off)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0


def test_updates_are_those_of_the_plain_step():
    ours, plain = both(TINY)
    for convolution in plain.model.image_branch.decoder.convolutions:
        convolution.bias.requires_grad_(False)  # ours has none; at a single place no norm takes it out again
    for _ in range(3):
        one, other = ours.step(), plain.step()
        for name in ("loss", "contrastive", "reconstruction", "matching", "tau", "gradient_norm"):
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-6), name
    assert math.isfinite(ours.seconds(1)) and ours.state.iteration == plain.plain.iteration + 1 == 4


def test_sizes_are_the_presets_and_the_study_s_is_96_voxels_in_full_precision():
    demo, study, paper = (config_of(Way(name)) for name in ("demo", "study", "paper"))
    assert demo == preset("demo").training and demo.chunk is None
    assert study.model.image.size == (96, 96, 96) and (study.precision, study.chunk) == ("float32", None)
    assert replace(study.model, image=paper.model.image) == paper.model
    assert (paper.batch, paper.chunk, paper.precision) == (256, 16, "bf16")
    assert replace(SIZES["demo_all_masked"], reconstruct_every=demo.reconstruct_every) == demo
    assert config_of(Way("demo", batch=256, chunk=16)) == replace(demo, batch=256, chunk=16)


def test_a_large_batch_is_of_strangers_whose_data_take_no_more_memory_than_a_small_one():
    small, large = (store_of(config_of(replace(TINY, batch=batch))) for batch in (16, 256))
    assert len(set(large.families)) == len(large) == 256
    assert large.arrays["volumes"].nbytes == small.arrays["volumes"].nbytes
    assert np.array_equal(large.volumes(np.array([17])), small.volumes(np.array([1])))
    networks = small.networks(np.arange(16))
    assert np.allclose(networks, networks.transpose(0, 2, 1)) and np.allclose(networks[:, range(8), range(8)], 1)


def test_ratios_are_medians_over_rounds_and_memory_is_the_last_round_s(monkeypatch):
    answers = {
        "plain": [{"seconds": s, "cpu_seconds": s, "peak_mib": 300.0, "held_mib": 100.0} for s in (9.0, 4.0, 6.0)],
        "ours": [{"seconds": s, "cpu_seconds": s / 2, "peak_mib": 150.0, "held_mib": 100.0} for s in (3.0, 2.0, 3.0)],
    }
    monkeypatch.setattr(cinp, "in_turns", lambda *_: answers)
    found = cinp.comparison("x", TINY, 3)
    assert found["x_ours_times_plain"] == 2 and found["x_ours_times_plain_in_cpu_seconds"] == 4
    assert found["x_ours_pairs_per_second"] == 2 and found["x_plain_pairs_per_second"] == 1
    assert found["x_ours_peak_times_plain"] == 0.5 and found["x_ours_added_times_plain"] == 0.25


def test_the_projection_is_the_study_s_pairs_over_pairs_per_second():
    assert cinp_projection.hours_per_epoch(4619 / 3600) == pytest.approx(1)
    found = cinp_projection.projection(TINY, steps=2)
    assert found.keys() == {"projection_pairs_per_second", "projection_hours_per_epoch", "projection_peak_mib"}
    pairs = found["projection_pairs_per_second"]
    assert found["projection_hours_per_epoch"] == pytest.approx(4619 / pairs / 3600, abs=1e-3)


@pytest.mark.slow
def test_the_comparison_and_the_caching_run_in_processes_of_their_own():
    found = cinp.comparison("tiny", TINY, 2)
    assert len(found) == 10 and all(value > 0 for value in found.values())
    cached = cinp.caching("tiny", replace(TINY, chunk=2))
    assert {"tiny_of_2_peak_mib", "tiny_of_32_peak_times_of_2", "tiny_of_32_added_times_of_2"} <= cached.keys()
