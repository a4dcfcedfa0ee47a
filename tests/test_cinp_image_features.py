"""Encoders that no network has taught, and fine-tuning: what is trained, what is looked at, what stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import MODEL, TRAINING
from small_pairs import people, write_store
from small_people import task_of

from cinp_lib.baselines.classifier_training import ClassifierConfig
from cinp_lib.baselines.image_features import encoder_inputs, mim_only, pooled_features, random_encoder
from cinp_lib.fine_tuning import ImageClassifier, fine_tuned
from cinp_lib.folds import repeated_folds
from cinp_lib.model import Cinp
from cinp_lib.pretrain import fit, trained_model
from cinp_lib.pretraining_state import State
from cinp_lib.starting_point import fit_inputs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("pairs"), people(16))


def test_masked_images_alone_teach_the_image_encoder_and_never_the_networks(tmp_path, store):
    config = mim_only(TRAINING, iterations=2, save_every=2)
    before = random_encoder(config, store, config.seed).state_dict()
    assert list(fit(store, tmp_path, config))[-1].keys().isdisjoint({"contrastive", "matching"})
    after = trained_model(tmp_path, config)[0].state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"image_encoder", "decoder"} <= moved
    assert moved.isdisjoint({"network_encoder", "network_projection", "matching", "log_tau"})
    assert config.reconstruct_every == 1 and config.objective.weights.reconstruction == 1


def test_a_random_encoder_is_the_same_for_the_same_seed_and_not_the_pretrained_ones(store):
    first, again, other = (random_encoder(TRAINING, store, seed).state_dict() for seed in (5, 5, 6))
    name = next(key for key in first if key.endswith("qkv.weight"))
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])


def test_pooled_features_are_those_of_single_scans_in_the_order_of_the_store(store):
    model = Cinp(MODEL).eval()
    made = pooled_features(model, store, batch=5)
    with torch.no_grad():
        for place in (0, 7, 15):
            single = model.image_encoder(torch.from_numpy(store.volumes(np.array([place])))[:, None]).pooled
            assert made[place] == pytest.approx(single[0].numpy(), abs=1e-5)


def test_fine_tuning_sees_the_components_that_the_model_sees(store):
    model = State.fresh(TRAINING, torch.device("cpu")).model.eval()
    fit_inputs(model, store)
    seen, volumes = [], torch.from_numpy(store.volumes(np.arange(4)))[:, None]
    classifier = ImageClassifier(model, 2).eval()
    classifier.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    classifier(volumes)
    components = TRAINING.model.components
    torch.testing.assert_close(seen[0][:, -components:], model.see(volumes, None).features[:, -components:])


def test_fine_tuning_moves_a_copy_and_leaves_the_model_as_it_is(store):
    model = Cinp(MODEL).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = task_of(16)
    (fold,) = repeated_folds(task, 1)
    config = ClassifierConfig(epochs=1, batch=8, learning_rate=1e-3)
    made = fine_tuned(model, store.volumes(np.arange(16)), task, config)(fold)
    frozen = fine_tuned(model, store.volumes(np.arange(16)), task, replace(config, learning_rate=1e-9))(fold)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not np.allclose(made.test, frozen.test)


def test_inputs_are_those_of_the_encoder_standardised_by_voxel_where_the_model_does_so(store):
    plain, voxelwise = (Cinp(replace(MODEL, voxelwise=chosen)) for chosen in (False, True))
    places = np.array([3, 1])
    assert np.array_equal(encoder_inputs(plain, store, places), store.volumes(places))
    model = random_encoder(replace(TRAINING, component_steps=0, model=replace(MODEL, voxelwise=True)), store, 0)
    made = encoder_inputs(model, store, np.arange(len(store)))
    inside = model.voxels.common.numpy()
    assert np.abs(made.mean(0)).max() < 1e-4 and (made[:, ~inside] == 0).all()
    with pytest.raises(ValueError, match="expected statistics of training volumes, got none"):
        encoder_inputs(voxelwise, store, places)
