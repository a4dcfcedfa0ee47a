"""Figures of pre-training show what they are given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from cinp_lib import pretraining_figures
from cinp_lib.retrieval import retrieval, retrieval_table

matplotlib.use("Agg")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_curves_show_what_a_run_records_and_leave_out_what_it_does_not():
    records = [{"iteration": k, "contrastive": 4.0 - k, "tau": 0.1, "validation_r1": 0.1 * k} for k in range(3)]
    titles = [ax.get_title() for ax in pretraining_figures.live_curves(records).axes]
    assert titles == ["losses", "temperature", "validation: own partner first"]


def test_the_similarity_matrix_is_on_a_scale_around_0_with_a_line_between_groups():
    values = RNG.uniform(-0.5, 0.8, (5, 5))
    axes = pretraining_figures.similarity(values, ["A", "A", "B", "B", "B"]).axes[0]
    image = axes.images[0]
    assert image.norm.vmin == -image.norm.vmax == -np.abs(values).max()
    assert [line.get_ydata()[0] for line in axes.lines[::2]] == [1.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "B"]
    assert axes.get_xticks().tolist() == [0.5, 3.0]


def test_bars_of_retrieval_stand_beside_their_own_chance():
    images = np.eye(12)
    found = {"everybody": retrieval(images, images), "own site": retrieval(images, images, ["A", "B"] * 6)}
    axes = pretraining_figures.retrieval_bars(retrieval_table(found)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1.0, 1.0]
    dashed = next(lines for lines in axes.collections if lines.get_label() == "chance")
    assert [segment[0, 1] for segment in dashed.get_segments()] == pytest.approx([1 / 12, 1 / 6])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["everybody\n(of 12)", "own site\n(of 6)"]


def test_reconstructions_show_what_is_hidden_as_0():
    volume, mask = RNG.uniform(0.2, 1, (6, 7, 5)), np.zeros((6, 7, 5), bool)
    mask[:3] = True
    axes = pretraining_figures.reconstructions([volume], [mask], [0.5 * volume]).axes
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    assert (shown[1][:, :3] == 0).all() and np.array_equal(shown[1][:, 3:], shown[0][:, 3:])
    assert np.allclose(shown[2], 0.5 * shown[0])


def test_the_map_shows_the_same_points_for_every_label():
    labels = {"site": ["A", "B", "A"], "diagnosis": ["control", "control", "autism"]}
    axes = pretraining_figures.embedding_map(RNG.normal(size=(3, 2)), labels).axes
    offsets = [np.asarray(ax.collections[0].get_offsets()) for ax in axes]
    assert np.array_equal(*offsets) and [ax.get_title() for ax in axes] == ["by site", "by diagnosis"]
