"""The ResNet-50 that names the site: its training, its files, and the linear attacker beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from site_slices import site_slices
from torch.nn import functional

from gan_lib.site_classifier import explanation
from gan_lib.site_classifier.attacks import AGAINST_REAL, ALL, Bench, against_real, linear_attack, said
from gan_lib.site_classifier.texture import feature_names, features, linear_classifier, slice_features
from gan_lib.site_classifier.training import ClassifierConfig, _Batches, answers, fitted
from study_lib.training import NonFiniteLoss

CPU = torch.device("cpu")
TINY = ClassifierConfig(steps=4, batch=6, crop=32, validate_every=2, calibration=1, precision="float32")


def test_batches_hold_all_sites_alike_and_training_people_only():
    slices = site_slices()
    batches = _Batches(slices.of_role("train"), replace(TINY, batch=9), seed=0)
    for step in range(5):
        images, labels, subjects = batches.draw(step)
        assert np.bincount(labels).tolist() == [3, 3, 3]
        assert set(subjects) <= set(slices.subjects[slices.roles == "train"])
        assert [s[:-1] for s in subjects] == [slices.names[k].lower() for k in labels]
        assert images.shape == (9, 32, 32)
    again = _Batches(slices.of_role("train"), replace(TINY, batch=9), seed=0).draw(4)
    assert np.array_equal(again[0], images) and np.array_equal(again[1], labels)


def test_augmentation_moves_and_dims_but_leaves_the_background():
    slices = site_slices(names=("Alpha", "Beta"))
    config = replace(TINY, crop=None, shift=2, jitter=0.02)
    images, _, _ = _Batches(slices, config, seed=0).draw(0)
    assert images.shape[1:] == slices.images.shape[1:]
    brain = (slices.images[0] != 0).sum()
    assert all((image != 0).sum() == brain for image in images)
    still, _, _ = _Batches(slices, replace(config, jitter=0.0, shift=0), seed=0).draw(0)
    assert all((image == slices.images).all(axis=(1, 2)).any() for image in still.astype(np.float16))


def test_it_learns_sites_that_differ_and_the_best_look_answers():
    slices = site_slices(names=("Alpha", "Beta"), step=0.3)
    config = replace(TINY, steps=12, batch=8, validate_every=4, jitter=0.0, calibration=2)
    network, records = fitted(slices, config, 0, CPU)
    test = slices.of_role("test")
    assert (answers(network, test).argmax(axis=1) == test.labels).mean() > 0.95
    assert [r["step"] for r in records] == [4, 8, 12] and records[-1]["loss"] < 0.5 < records[0]["loss"] + 0.1
    validation = slices.of_role("validation")
    logits = torch.from_numpy(answers(network, validation))
    loss = functional.cross_entropy(logits, torch.from_numpy(validation.labels), label_smoothing=config.smoothing)
    assert float(loss) == pytest.approx(min(r["validation_loss"] for r in records), rel=1e-3)


def test_training_stops_where_validation_no_longer_improves():
    slices = site_slices(names=("Alpha", "Beta"), step=0.0)
    config = replace(TINY, steps=40, validate_every=1, patience=2, learning_rate=0.0)
    _, records = fitted(slices, config, 0, CPU)
    assert len(records) < 40
    losses = [r["validation_loss"] for r in records]
    assert min(losses[-2:]) >= min(losses[:-2])


def test_a_seed_gives_the_same_answers_whatever_was_drawn_before_and_another_seed_others():
    slices = site_slices(names=("Alpha", "Beta"))
    test, config = slices.of_role("test"), replace(TINY, steps=2)
    one = answers(fitted(slices, config, 0, CPU)[0], test)
    torch.rand(3)
    assert np.array_equal(one, answers(fitted(slices, config, 0, CPU)[0], test))
    assert not np.array_equal(one, answers(fitted(slices, config, 1, CPU)[0], test))


def test_a_slice_that_is_no_number_stops_the_training_by_subject():
    slices = site_slices(names=("Alpha", "Beta"))
    slices.images[0, 10:20] = np.nan
    with pytest.raises(NonFiniteLoss, match="alpha0"):
        fitted(slices, replace(TINY, steps=20), 0, CPU)


@pytest.mark.parametrize("detail", [True, False])
def test_a_finished_attack_is_not_trained_again_and_other_slices_are(tmp_path, detail):
    slices = site_slices(names=("Alpha", "Beta", "Gamma"))
    config = replace(TINY, steps=2, detail=detail)
    bench = Bench(tmp_path, config, CPU, keep=("before",))
    first = bench.trained("before", slices, {"before": slices}, 0)
    file = tmp_path / "before" / "seed0.safetensors"
    written = file.stat().st_mtime_ns
    again = bench.trained("before", slices, {"before": slices}, 0)
    assert file.stat().st_mtime_ns == written
    assert np.array_equal(again.logits["before"], first.logits["before"])
    np.testing.assert_allclose(
        answers(first.network(), slices.of_role("test")), first.logits["before"], rtol=1e-5, atol=1e-5
    )
    darker = replace(slices, images=slices.images * np.float16(0.5))
    other = Bench(tmp_path, config, CPU).trained("before", darker, {"before": darker}, 0)
    assert file.stat().st_mtime_ns != written
    with pytest.raises(ValueError, match="were not kept"):
        other.network()


def test_an_attack_asks_its_classifier_about_other_slices_too_and_pairs_can_be_trained_apart(tmp_path):
    slices = site_slices(names=("Alpha", "Beta", "Gamma"))
    config = replace(TINY, steps=1, validate_every=1)
    table = Bench(tmp_path, config, CPU).attack("before", slices, {"after_frozen": slices})
    one, other = (table[table["attack"] == name].drop(columns="attack") for name in ("before", "after_frozen"))
    assert one.to_numpy().tolist() == other.to_numpy().tolist()
    assert set(one["question"]) == {ALL, "Alpha, Beta", "Alpha, Gamma", "Beta, Gamma"}
    apart = Bench(tmp_path / "apart", config, CPU, pairs_apart=True).attack("before", slices)
    assert set(apart["question"]) == set(one["question"]) and len(apart) == len(one)
    assert (tmp_path / "apart" / "before-alpha_gamma" / "seed0.safetensors").is_file()
    assert set(table["subject"]) == set(slices.subjects[slices.roles == "test"])


def test_against_real_scans_only_the_target_is_as_it_was(tmp_path):
    slices = site_slices(step=0.0)
    darker = replace(slices, images=slices.images * np.float16(0.5))
    seen = {}

    class Watched(Bench):
        def trained(self, name, own, tests, seed):
            seen[name] = own
            return super().trained(name, own, tests, seed)

    bench = Watched(tmp_path, replace(TINY, steps=1, validate_every=1), CPU)
    table = against_real(bench, slices, {"Beta": darker})
    assert set(table["question"]) == {"Alpha to Beta", "Gamma to Beta"} and set(table["attack"]) == {AGAINST_REAL}
    (name, mixed), own = *seen.items(), slices.labels == 1
    assert name == "against_real_beta"
    assert np.array_equal(mixed.images[own], slices.images[own])
    assert np.array_equal(mixed.images[~own], darker.images[~own])


def test_a_pair_is_read_off_its_two_logits():
    slices = site_slices().of_role("test")
    logits = np.random.default_rng(0).standard_normal((len(slices), 3))
    table = said("x", logits, slices, seed=7)
    row = 0
    for sites in [(0, 1, 2), (0, 1), (0, 2), (1, 2)]:
        for k in range(len(slices)):
            if slices.labels[k] in sites:
                best = max(sites, key=lambda site, k=k: logits[k, site])
                assert table["said"][row] == slices.names[best]
                assert table["site"][row] == slices.names[slices.labels[k]]
                row += 1
    assert row == len(table)
    with pytest.raises(ValueError, match="expected logits of shape"):
        said("x", logits[:, :2], slices, 0)


def test_features_are_named_finite_and_tell_brightness_from_grain():
    slices = site_slices()
    values = features(slices)
    assert values.shape == (len(slices), len(feature_names())) and np.isfinite(values).all()
    flat = slices.images[0].copy()
    flat[flat != 0] = 0.5
    by_name = dict(zip(feature_names(), slice_features(flat), strict=True))
    assert by_name["intensity 10"] == 1 and by_name["homogeneity at 1"] == pytest.approx(1)
    assert by_name["laplacian sd"] == pytest.approx(np.log(1e-4)) and by_name["contrast at 2"] == 0
    grain = dict(zip(feature_names(), values[0], strict=True))
    assert grain["band 8"] > by_name["band 8"] + 1
    with pytest.raises(ValueError, match="the slice is empty"):
        slice_features(np.zeros((20, 20)))


def test_the_linear_attacker_finds_brightness_and_learns_from_training_people_only():
    slices = site_slices(step=0.25)
    table = linear_attack("linear", slices)
    assert (table["site"] == table["said"]).mean() > 0.9 and set(table["seed"]) == {0}
    values = features(slices)
    model = linear_classifier(values, slices)
    spoiled = values.copy()
    spoiled[slices.roles == "test"] = 1e6
    other = linear_classifier(spoiled, slices)
    assert np.array_equal(model[-1].coef_, other[-1].coef_) and np.array_equal(model[0].mean_, other[0].mean_)


def test_attention_lies_where_the_class_is_seen():
    """A network whose class 1 is the brightness of the left: its map is larger there."""
    slices = explanation.middle_slices(site_slices(names=("Alpha", "Beta"), per_subject=3))
    assert len(slices) == 2 and set(slices.roles) == {"test"}

    class Left(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer3 = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.ones_(self.layer3.weight)

        def forward(self, x):
            features = self.layer3(x)
            left = features[..., : x.shape[-1] // 2].mean((1, 2, 3))
            return torch.stack([-left, left], dim=1)

    maps = explanation.attention(Left(), slices, layer="layer3")
    assert maps.shape == slices.images.shape
    assert not maps[0].any()  # for class 0 brightness speaks against it
    assert maps[1].max() > 0
    expected = np.clip(slices.images[1].astype(np.float32), 0, None)
    assert np.corrcoef(maps[1].ravel(), expected.ravel())[0, 1] > 0.99
