"""The criterion for the best state: likeness to people of the target site, and nothing lost on the way back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_gan import NETWORKS, write_stores
from torch import nn

from gan_lib.layers import SiteLinear
from gan_lib.train_step import Networks
from gan_lib.translation import translate_stack, volume_style
from gan_lib.validation import EVERY, QUANTILES, validation_error

GAINS = {"Alpha": 1.0, "Beta": 0.8, "Gamma": 0.5}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("slices"))


def scaled(store):
    """The same person at every site but for the site's gain: what a perfect translation would have to change."""
    texture = np.random.default_rng(0).uniform(0.2, 0.9, store.arrays["images"].shape[1:])
    mask = store.arrays["masks"][0]
    for image, inside in zip(texture, mask, strict=True):
        image[tuple(np.argwhere(inside)[:1].T)] = 1  # as bright in every slice
    gains = np.array([GAINS[site] for site in store.table["site"]])
    images = gains[:, None, None, None] * np.where(mask, texture, 0)
    areas = {plane: np.repeat(values[:1], len(store), axis=0) for plane, values in store.areas.items()}
    arrays = {"images": images.astype(np.float32), "masks": np.repeat(mask[None], len(store), axis=0)}
    return replace(store, arrays=arrays, areas=areas)


class Gain(nn.Module):
    """Sets the brightest value of each image to the one that the style names, times `fault`."""

    def __init__(self, fault=1.0):
        super().__init__()
        self.fault = nn.Parameter(torch.tensor(fault))

    def forward(self, images, styles):
        return images * (self.fault * styles[:, 0, None, None, None] / images.amax((1, 2, 3), keepdim=True))


class Brightest(nn.Module):
    """The style is the brightest value."""

    def forward(self, images, site):
        return images.amax((1, 2, 3))[:, None]


class Nothing(nn.Module):
    """Leaves images as they are."""

    def forward(self, images, styles):
        return images


def pair(generator, encoder=None):
    """What the criterion needs of networks."""
    networks = nn.Module()
    networks.generator, networks.encoder = generator, encoder or Brightest()
    return networks


def quantiles(values):
    return np.quantile(np.array(values), QUANTILES)


def values_and_steps(images, masks):
    """Brain values, and differences of neighbours that both are brain, pixel by pixel."""
    values, steps = [], []
    for image, mask in zip(images, masks, strict=True):
        for i, j in np.argwhere(mask):
            values.append(image[i, j])
            for k, m in ((i + 1, j), (i, j + 1)):
                if k < mask.shape[0] and m < mask.shape[1] and mask[k, m]:
                    steps.append(abs(image[k, m] - image[i, j]))
    return values, steps


def naive_error(networks, training, validation):
    """All pairs of sites in loops."""

    def slices(store, index):
        images, masks = store.stack(index)
        chosen = [n for n in range(len(images)) if store.full()[index, n]][::EVERY]
        return images[chosen], masks[chosen]

    def style(site):
        found = []
        for index, name in enumerate(training.table["site"]):
            if name == training.sites[site]:
                found.append(volume_style(networks.encoder, slices(training, index)[0], site))
        return sum(found) / len(found)

    def translate(images, masks, site):
        return np.clip(translate_stack(networks.generator, images, style(site)), 0, 1) * masks

    def pooled(stacks):
        parts = [values_and_steps(images, masks) for images, masks in stacks]
        return quantiles([v for p in parts for v in p[0]]), quantiles([v for p in parts for v in p[1]])

    people = {site: [] for site in validation.sites}
    for index, name in enumerate(validation.table["site"]):
        people[name].append(slices(validation, index))
    intensities, textures, cycles = [], [], []
    for target, target_name in enumerate(validation.sites):
        for source, source_name in enumerate(validation.sites):
            if source == target or not people[source_name] or not people[target_name]:
                continue
            there = [(translate(images, masks, target), masks) for images, masks in people[source_name]]
            for found, one, other in zip(
                (intensities, textures), pooled(there), pooled(people[target_name]), strict=True
            ):
                found.append(np.mean(np.abs(one - other)))
            back = [translate(images, masks, source) for images, masks in there]
            errors = [np.abs(b - images)[masks] for b, (images, masks) in zip(back, people[source_name], strict=True)]
            cycles.append(np.concatenate(errors).mean())
    return np.mean(intensities), np.mean(textures), np.mean(cycles)


def test_the_error_is_that_of_loops_over_pairs_of_sites(stores):
    torch.manual_seed(0)
    networks = Networks(replace(NETWORKS, size=stores[0].size)).eval()
    for layer in networks.modules():
        if isinstance(layer, SiteLinear):
            nn.init.normal_(layer.bias)
    found = validation_error(networks, *stores)
    assert (found.intensity, found.texture, found.cycle) == pytest.approx(naive_error(networks, *stores), rel=1e-4)
    assert found.total == found.intensity + found.texture


def test_leaving_everything_as_it_is_loses_nothing_on_the_way_and_gains_no_likeness(stores):
    training, validation = map(scaled, stores)
    error = validation_error(pair(Nothing()), training, validation)
    assert error.cycle == 0
    assert error.intensity == pytest.approx(np.mean([0.2, 0.5, 0.3]) * 0.55, rel=0.05)  # mean of the texture: 0.55
    assert error.texture == pytest.approx(np.mean([0.2, 0.5, 0.3]) * 0.7 / 3, rel=0.05)  # of two uniform values


def test_a_perfect_translation_has_no_error_and_a_worse_one_more(stores):
    training, validation = map(scaled, stores)
    errors = [validation_error(pair(Gain(fault)), training, validation) for fault in (1.0, 0.95, 0.8)]
    assert errors[0].total == pytest.approx(0, abs=1e-6)
    for name in ("intensity", "texture", "cycle", "total"):
        assert getattr(errors[0], name) < getattr(errors[1], name) < getattr(errors[2], name)


def test_what_lies_outside_the_brain_or_the_scale_is_not_looked_at(stores):
    class Bright(nn.Module):
        """Ten times too bright outside the brain, and below 0 or above 1 where the brain is at the ends."""

        def forward(self, images, styles):
            return torch.where(images == 0, torch.full_like(images, -10.0), images)

    training, validation = stores
    left, changed = (validation_error(pair(kind()), training, validation) for kind in (Nothing, Bright))
    assert changed == left


def test_validation_people_of_one_site_alone_are_refused(stores):
    training, validation = stores
    only = validation.table["site"] == "Beta"
    arrays = {name: values[only] for name, values in validation.arrays.items()}
    areas = {plane: values[only] for plane, values in validation.areas.items()}
    alone = replace(validation, table=validation.table[only].reset_index(drop=True), arrays=arrays, areas=areas)
    with pytest.raises(ValueError, match=r"expected volumes of at least two sites, got \['Beta'\]"):
        validation_error(pair(Nothing()), training, alone)


def test_a_site_without_validation_people_is_left_out_of_the_pairs(stores):
    training, validation = map(scaled, stores)
    there = validation.table["site"] != "Gamma"
    arrays = {name: values[there] for name, values in validation.arrays.items()}
    areas = {plane: values[there] for plane, values in validation.areas.items()}
    fewer = replace(validation, table=validation.table[there].reset_index(drop=True), arrays=arrays, areas=areas)
    all_three, two = (validation_error(pair(Nothing()), training, v) for v in (validation, fewer))
    assert two.cycle == 0
    assert two.intensity == pytest.approx(all_three.intensity * 0.2 / np.mean([0.2, 0.5, 0.3]), rel=0.05)


def test_looking_changes_nothing(stores):
    torch.manual_seed(0)
    networks = Networks(replace(NETWORKS, size=stores[0].size)).eval()
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    state = torch.get_rng_state()
    one, other = validation_error(networks, *stores), validation_error(networks, *stores)
    assert one == other and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())
    assert all(value.grad is None for value in networks.parameters())
