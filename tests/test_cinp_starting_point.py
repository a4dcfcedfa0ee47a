"""What pre-training begins with: components that are aligned before the encoders add anything."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import MODEL, TRAINING
from small_pairs import halves, people, write_store

from cinp_lib import starting_point
from cinp_lib.connectivity import edges
from cinp_lib.embeddings import embed_pairs
from cinp_lib.losses import LossWeights
from cinp_lib.model import Cinp, ModelConfig, known_edges
from cinp_lib.objective import ObjectiveConfig
from cinp_lib.pretraining_state import State
from cinp_lib.retrieval import retrieval
from cinp_lib.starting_point import align_components, begin, fit_inputs

CONFIG = replace(
    TRAINING, model=replace(MODEL, voxelwise=True, components=4, feature_dropout=0.0), component_steps=40, batch=6
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return halves(write_store(tmp_path_factory.mktemp("start"), people(48)))


def begun(store, **changes):
    config = replace(CONFIG, **changes)
    model = State.fresh(config, torch.device("cpu")).model
    begin(model, store, config)
    return model


def found(model, store):
    embedded = embed_pairs(model, store)
    return retrieval(embedded.images, embedded.networks)


@pytest.mark.parametrize("changes", [{}, {"within_site": True}])
def test_people_never_seen_are_found_by_components_alone_and_not_once_pairs_are_exchanged(parts, changes):
    training, validation = parts
    assert found(begun(training, **changes), validation).r1 > 0.6
    assert found(begun(training.shuffled(1), **changes), validation).r1 < 0.4


def test_encoders_begin_by_adding_nothing_and_their_weights_are_as_without_components(parts):
    model = begun(parts[0]).eval()
    fresh = State.fresh(CONFIG, torch.device("cpu")).model
    moved = {n for n, v in model.named_parameters() if not torch.equal(v, fresh.get_parameter(n))}
    assert moved == {"image_projection.of_components.weight", "network_projection.of_components.weight"}
    places = np.arange(4)
    volumes = torch.from_numpy(parts[1].volumes(places))[:, None]
    before = model.embed_images(volumes)
    for parameter in model.image_encoder.parameters():
        parameter.data.add_(0.1)
    assert torch.equal(model.embed_images(volumes), before)
    networks = torch.from_numpy(parts[1].networks(places))
    before = model.embed_networks(networks)
    for parameter in model.network_encoder.parameters():
        parameter.data.add_(0.1)
    assert torch.equal(model.embed_networks(networks), before)


def test_a_missing_region_is_as_the_mean_of_training_people(parts):
    model = begun(parts[0]).eval()
    networks = torch.from_numpy(parts[1].networks(np.arange(3)))
    whole = model.read(networks)
    networks[0, 4], networks[0, :, 4] = 0.0, 0.0
    mean = torch.zeros_like(networks[0])
    row, column = np.triu_indices(len(mean), 1)
    mean[row, column] = model.network_components.mean
    filled = networks.clone()
    filled[0, 4], filled[0, :, 4] = (mean + mean.T)[4], (mean + mean.T)[4]
    filled[0, 4, 4] = 1.0
    of_components = model.network_projection.of_components.in_features
    found = model.read(networks)[:, -of_components:]
    torch.testing.assert_close(found, model.read(filled)[:, -of_components:])
    assert not torch.allclose(found[0], whole[0, -of_components:], atol=1e-3)
    torch.testing.assert_close(found[1:], whole[1:, -of_components:])


def test_no_more_people_are_told_apart_at_once_than_fit(parts, monkeypatch):
    name = "image_projection.of_components.weight"
    everybody = begun(parts[0]).get_parameter(name)
    monkeypatch.setattr(starting_point, "LARGEST", 5)
    model = begun(parts[0])
    assert found(model, parts[1]).r1 > 0.4 and not torch.allclose(model.get_parameter(name), everybody, atol=1e-3)


def test_features_are_the_encoders_with_components_behind_them(parts):
    model, places = begun(parts[0]).eval(), np.arange(5)
    networks = torch.from_numpy(parts[1].networks(places))
    assert np.array_equal(known_edges(networks).numpy(), edges(networks.numpy()))
    read = model.read(networks)
    torch.testing.assert_close(read[:, : model.config.network.embedding], model.network_encoder(networks))
    torch.testing.assert_close(read[:, -4:], model.network_components(torch.from_numpy(edges(networks.numpy()))))
    volumes = torch.from_numpy(parts[1].volumes(places))[:, None]
    standard = model.voxels(volumes)
    seen = model.see(volumes, None).features
    torch.testing.assert_close(seen[:, : model.config.image.embedding], model.image_encoder(standard).pooled)
    torch.testing.assert_close(seen[:, -4:], model.image_components(standard.flatten(1)))


def test_it_is_the_same_every_time_and_another_one_for_another_seed(parts):
    first, again, other = begun(parts[0]), begun(parts[0]), begun(parts[0], seed=1)
    name = "image_projection.of_components.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_without_steps_nothing_is_aligned_though_statistics_are_there(parts):
    model = begun(parts[0], component_steps=0)
    fresh = State.fresh(CONFIG, torch.device("cpu")).model
    name = "image_projection.of_components.weight"
    assert torch.equal(model.get_parameter(name), fresh.get_parameter(name)) and model.image_components.found == 4


def test_the_loss_that_aligns_is_the_chosen_one(parts):
    made = {}
    for kind in ("infonce", "siglip"):
        model = State.fresh(CONFIG, torch.device("cpu")).model
        fit_inputs(model, parts[0])
        align_components(model, parts[0], replace(CONFIG, objective=ObjectiveConfig(contrastive=kind)))
        made[kind] = model.get_parameter("image_projection.of_components.weight")
    assert not torch.allclose(made["infonce"], made["siglip"])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="components: expected 0, or some of volumes with voxelwise=True; got 3 with"):
        ModelConfig(components=3)
    alone = ObjectiveConfig(weights=LossWeights(contrastive=0.0))
    for wrong in ({"component_steps": -1}, {"model": CONFIG.without_components.model}, {"objective": alone}):
        with pytest.raises(ValueError, match="component_steps: expected 0, or some of a model with components, by a"):
            replace(CONFIG, **wrong)
    with pytest.raises(ValueError, match="expected statistics of training volumes, got none"):
        Cinp(CONFIG.model).eval().embed_images(torch.rand(2, 1, *CONFIG.model.image.size))
