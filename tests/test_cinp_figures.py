"""Figures of networks show what they are given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from cinp_lib import figures

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_networks_side_by_side_share_one_symmetric_scale():
    figure = figures.matrices({"a": np.eye(3), "b": -np.eye(3)}, 0.3)
    assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [(-0.3, 0.3)] * 2


def test_a_carpet_standardises_every_region_and_survives_a_constant_one():
    series = np.random.default_rng(0).normal(5, 3, (30, 4))
    series[:, 2] = 7
    shown = figures.carpet({"x": series}, np.zeros(30), 0.5).axes[1].images[0].get_array()
    assert shown.shape == (4, 30)
    assert shown[0].std() == pytest.approx(1)
    assert np.array_equal(shown[2], np.zeros(30))


def test_dropped_volumes_stay_blank_in_a_carpet_and_the_others_are_shown():
    series = np.random.default_rng(0).normal(5, 3, (30, 4))
    series[7] = np.nan
    shown = figures.carpet({"x": series}, np.zeros(30), 0.5).axes[1].images[0].get_array()
    assert np.ma.getmaskarray(shown)[:, 7].all() or np.isnan(shown[:, 7]).all()
    assert np.isfinite(np.delete(np.asarray(shown), 7, axis=1)).all()


def test_the_line_through_the_edges_is_the_mean_of_the_edges_of_that_length():
    distance = np.linspace(10, 120, 111)
    figure = figures.edge_motion_by_distance(distance, {"x": np.where(distance < 65, 0.5, -0.5)})
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 11)
    assert line.get_ydata()[:5] == pytest.approx(0.5)
    assert line.get_ydata()[6:] == pytest.approx(-0.5)


def test_recovery_writes_the_mean_and_the_number_of_subjects():
    axes = figures.recovery({"none": np.array([0.2, 0.4]), "36p": np.array([0.8, 0.9])}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.85"]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "none\n(n = 2 subjects)",
        "36p\n(n = 2 subjects)",
    ]


def test_likeness_draws_a_line_between_groups():
    axes = figures.likeness(np.eye(3), ["a", "a", "b"]).axes[0]
    assert {line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1} == {1.5}
