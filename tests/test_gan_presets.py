"""Presets, the data they are trained on, and the pictures of training."""

from dataclasses import replace

import numpy as np
import pytest
from small_gan import training_for, write_stores
from small_slices import Person, write_cohort

from gan_lib.networks import NetworkConfig
from gan_lib.panel import Panel
from gan_lib.presets import PRESETS, preset
from gan_lib.train_step import Networks, StepConfig
from gan_lib.training_data import with_roles
from gan_lib.training_figures import live_curves, slice_rows


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("stores"))


def test_paper_holds_the_values_of_the_study():
    paper = preset("paper").training
    assert (paper.iterations, paper.networks.size, paper.networks.sites) == (16_000, (256, 256), 4)
    assert paper.networks == NetworkConfig()
    assert (paper.step.weights.star_gan, paper.step.weights.temporal, paper.step.weights.identity) == (1.0, 0.5, 0.0)
    assert paper.step == StepConfig(), "the order of updates is StarGAN v2's, and nothing is added to the output"
    assert not paper.draw.other_site and not paper.draw.match_level


def test_every_preset_fits_slices_of_any_size_and_number_of_sites(stores):
    for chosen in PRESETS.values():
        config = chosen.for_store(stores[0], seed=3)
        assert (config.networks.size, config.networks.sites, config.seed) == (stores[0].size, 3, 3)


def test_a_preset_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KeyError, match="expected one of smoke, demo, paper, got 'fast'"):
        preset("fast")


def people(role):
    return [Person(f"{site}{n}", site, n, role, family=f"{site}{n // 2}") for site in ("A", "B") for n in range(20)]


def test_without_roles_a_tenth_of_each_site_validates_and_families_stay_whole(tmp_path):
    few = [Person(f"C{n}", "C", 21 + n, "unassigned") for n in range(3)]
    rows = with_roles(write_cohort(tmp_path, [*people("unassigned"), *few]).table)
    counts = {site: dict(own["role"].value_counts()) for site, own in rows.groupby("site")}
    large = {"train": 18, "validation": 2}
    assert counts == {"A": large, "B": large, "C": {"train": 3}}
    assert (rows.groupby("family")["role"].nunique() == 1).all()


def test_roles_that_are_given_stay(tmp_path):
    rows = write_cohort(tmp_path, [*people("unassigned"), Person("zoe", "A", 30, "train")]).table
    assert with_roles(rows) is rows


def test_travelling_subjects_get_no_role(tmp_path):
    rows = write_cohort(tmp_path, [*people("unassigned"), Person("zoe", "A", 30, "travelling")]).table
    assert with_roles(rows).set_index("subject").loc["zoe", "role"] == "travelling"


def test_the_panel_holds_the_middle_of_one_volume_per_site_and_translates_it(stores):
    training, validation = stores
    panel = Panel.of(validation, "Beta")
    assert panel.sites == ("Alpha", "Beta", "Gamma")
    for place, site in enumerate(panel.sites):
        images, masks = validation.stack(validation.volumes(site)[0])
        largest = masks.sum((1, 2)).argmax()
        assert np.array_equal(panel.images[place], images[largest])
    networks = Networks(replace(training_for(training).networks, residual=True)).eval()
    translated = panel.translated(networks, training)
    assert np.allclose(translated, panel.images, atol=1e-6), "an untrained residual generator changes nothing"
    assert (translated[~panel.masks] == 0).all()


def test_a_panel_of_an_unknown_target_is_refused(stores):
    with pytest.raises(ValueError, match="expected a target among Alpha, Beta, Gamma, got 'Delta'"):
        Panel.of(stores[0], "Delta")


def test_curves_show_what_the_records_have_and_nothing_before_there_are_any():
    assert not live_curves([]).axes[0].lines
    records = [{"iteration": k, "cycle_latent": 1 / (k + 1), "discriminator_real": 0.7} for k in range(5)]
    assert {ax.get_title() for ax in live_curves(records).axes} == {"discriminator", "cycle"}


def test_rows_of_slices_share_one_grey_scale_and_name_rows_and_columns():
    images = np.random.default_rng(0).random((3, 5, 7), dtype=np.float32)
    figure = slice_rows({"source": images, "after": images / 2}, ["A", "B", "C"], "title")
    axes = figure.axes
    assert [ax.get_title() for ax in axes[:3]] == ["A", "B", "C"]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["source", "after"]
    assert {ax.images[0].get_clim() for ax in axes} == {(0, 1)}
