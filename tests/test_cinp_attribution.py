"""Attributions add up, follow the gradient, and explain nothing by what does not differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import CALM, give_statistics
from small_pairs import REGIONS, head, network, people
from small_tasks import embeddings

from cinp_lib.attribution import (
    PLANS,
    AttributionPlan,
    cluster_attribution,
    edge_attribution,
    explained_people,
    image_attribution,
    incompleteness,
    prompt_direction,
    regions_of_clusters,
)
from cinp_lib.folds import repeated_folds
from cinp_lib.model import Cinp
from cinp_lib.prompt_study import Material
from cinp_lib.tasks import tasks_of

PLAN = AttributionPlan(steps=24, network_steps=64, batch=3)


@pytest.fixture(scope="module")
def model() -> Cinp:
    torch.manual_seed(0)
    return Cinp(CALM).eval()


@pytest.fixture(scope="module")
def inputs():
    group = people(5)
    volumes = np.stack([head(person)[0] for person in group]) / 1000
    direction = np.random.default_rng(0).normal(size=CALM.embedding)
    return volumes, np.stack([network(person) for person in group]), direction


def margins(embed, values, baseline, direction):
    with torch.no_grad():
        seen = embed(torch.from_numpy(np.concatenate([baseline[None], values]))).numpy() @ direction
    return seen[1:] - seen[0]


def test_voxels_add_up_to_what_the_margin_gained(model, inputs):
    volumes, _, direction = inputs
    baseline = volumes.mean(0)
    found = image_attribution(model, volumes, baseline, direction, PLAN)
    expected = margins(lambda rows: model.embed_images(rows[:, None]), volumes, baseline, direction)
    assert found.parts.shape == volumes.shape
    assert found.margins == pytest.approx(expected, abs=1e-5)
    assert found.parts.sum((1, 2, 3)) == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))
    halves = [image_attribution(model, own, baseline, direction, PLAN) for own in (volumes[:1], volumes[1:])]
    assert incompleteness([found]) == pytest.approx(incompleteness(halves), abs=1e-3) and incompleteness([found]) < 0.05
    with pytest.raises(ValueError, match="two people or more whose margins differ, got 1"):
        incompleteness(halves[:1])


def test_voxels_are_the_mean_gradient_on_the_way_times_the_difference(model, inputs):
    volumes, _, direction = inputs
    baseline, steps, total = volumes.mean(0), 100, 0
    for k in range(steps):
        point = torch.from_numpy(baseline + (k + 0.5) / steps * (volumes[0] - baseline))[None, None].requires_grad_()
        margin = model.embed_images(point) @ torch.from_numpy(direction).float()
        total = total + torch.autograd.grad(margin.sum(), point)[0][0, 0].numpy() / steps
    expected = total * (volumes[0] - baseline)
    found = image_attribution(model, volumes[:1], baseline, direction, PLAN).parts[0]
    assert found == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))


def test_a_voxel_that_is_as_in_the_mean_explains_nothing(model, inputs):
    volumes, _, direction = inputs
    baseline = volumes.mean(0)
    changed = volumes.copy()
    changed[:, 4:9, 5:9, 6:9] = baseline[4:9, 5:9, 6:9]
    found = image_attribution(model, changed, baseline, direction, PLAN).parts
    assert not found[:, 4:9, 5:9, 6:9].any() and found.any()


def test_edges_and_clusters_add_up_to_what_the_margin_gained(model, inputs):
    _, networks, direction = inputs
    baseline = networks.mean(0)
    expected = margins(model.embed_networks, networks, baseline, direction)
    edges = edge_attribution(model, networks, baseline, direction, PLAN)
    assert edges.parts.shape == (5, REGIONS * (REGIONS - 1) // 2)
    assert edges.parts.sum(1) == pytest.approx(expected, abs=0.03 * float(np.abs(expected).max()))
    clusters = cluster_attribution(model, networks, baseline, direction, PLAN)
    assert clusters.parts.shape == (5, CALM.network.clusters)
    assert clusters.parts.sum(1) == pytest.approx(expected, abs=0.03 * float(np.abs(expected).max()))


def test_an_edge_counts_in_both_directions_and_one_that_is_as_in_the_mean_not_at_all(model, inputs):
    _, networks, direction = inputs
    baseline = networks.mean(0)
    values = edge_attribution(model, networks, baseline, direction, PLAN).parts
    rows, columns = np.triu_indices(REGIONS, 1)
    differs = np.abs(networks - baseline).max(0)[rows, columns] > 1e-6
    assert values[:, differs].any() and not values[:, ~differs].any()


def test_clusters_add_up_to_what_goes_through_the_readout_where_components_go_around_it(inputs):
    _, networks, direction = inputs
    torch.manual_seed(0)
    model = Cinp(replace(CALM, voxelwise=True, components=3)).eval()
    give_statistics(model)
    torch.nn.init.normal_(model.network_projection.linear.weight, std=0.02)
    baseline = networks.mean(0)
    found = cluster_attribution(model, networks, baseline, direction, PLAN)
    whole = margins(model.embed_networks, networks, baseline, direction)
    assert found.parts.sum(1) == pytest.approx(found.margins, abs=0.02 * float(np.abs(found.margins).max()))
    assert np.abs(found.margins - whole).max() > 0.1 * np.abs(whole).max() and np.abs(found.margins).max() > 0
    torch.nn.init.zeros_(model.network_components.directions)
    model.network_components.directions[0, 0] = 1e-30  # components of nothing: all goes through the readout
    alone = cluster_attribution(model, networks, baseline, direction, PLAN)
    assert alone.margins == pytest.approx(margins(model.embed_networks, networks, baseline, direction), abs=1e-5)


def test_regions_are_shared_out_to_clusters(model, inputs):
    shares = regions_of_clusters(model, inputs[1])
    assert shares.shape == (REGIONS, CALM.network.clusters)
    assert shares.sum(1) == pytest.approx(np.ones(REGIONS))


def test_the_direction_is_the_difference_of_training_means_and_nobody_is_explained_twice():
    made = embeddings()
    material = Material.of(tasks_of(made.table)["srpbs"], made)
    folds = repeated_folds(material.task, 6)
    plan = AttributionPlan(fraction=1.0, draws=2)
    training = folds[0].training
    means = [material.networks[training[material.task.y[training] == k]].mean(0) for k in (0, 2)]
    found = prompt_direction(material, folds[0], "schizophrenia", plan, 0)
    assert found == pytest.approx(means[1] - means[0], abs=1e-6)
    explained = list(explained_people(folds, 20))
    everybody = np.concatenate([own for _, own in explained])
    assert len(everybody) == len(set(everybody.tolist())) == 20
    assert all(set(own) <= set(fold.test) for fold, own in explained)
    with pytest.raises(KeyError, match="expected one of depression, schizophrenia, got 'control'"):
        prompt_direction(material, folds[0], "control", plan, 0)


def test_every_profile_has_a_plan():
    assert set(PLANS) == {"smoke", "demo", "paper"}
