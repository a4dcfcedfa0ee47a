"""Figures of prompting show chance, and every method they are given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cinp_lib import prompt_figures
from cinp_lib.prompt_answers import Answers

matplotlib.use("Agg")
CHANCES = {"abide": 0.5, "srpbs": 1 / 3}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def heights(axes):
    return [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]


def test_the_grid_has_a_line_for_each_share_of_networks_and_chance_in_each_panel():
    cells = [(t, f, r, kind) for t in CHANCES for f in (0.1, 1.0) for r in (1, 5) for kind in ("mean", "length 1")]
    table = pd.DataFrame(cells, columns=["task", "fraction", "r", "references"])
    table = table.assign(balanced_accuracy=0.6, draws_low=0.55, draws_high=0.7)
    figure = prompt_figures.grid(table, CHANCES)
    assert [heights(axes) for axes in figure.axes] == [[0.5], [pytest.approx(1 / 3)]]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [
        f"{share} of networks, {kind}" for share in ("10%", "100%") for kind in ("length 1", "mean")
    ]
    bars = figure.axes[0].containers[0].get_children()[1].get_segments()
    assert np.array(bars)[0, :, 1] == pytest.approx([0.55, 0.7])


def test_methods_are_named_in_their_order_with_intervals():
    rows = [(t, m, 0.6, 0.5, 0.7) for t in CHANCES for m in ("centroid", "prompt", "oracle", "not asked for")]
    table = pd.DataFrame(rows, columns=["task", "method", "balanced_accuracy", "low", "high"])
    labels = {"prompt": "prompting", "centroid": "nearest centroid", "oracle": "oracle"}
    figure = prompt_figures.methods(table, labels, CHANCES, "phantom")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(labels.values())
    assert "interval over subjects" in figure.get_suptitle() and len(figure.axes[0].containers) == 3


def test_margins_are_means_over_draws_of_second_minus_first_class():
    table = pd.DataFrame({"fold": 0, "subject": ["a", "b", "c", "d"], "label": [0, 0, 1, 1]})
    scores = np.random.default_rng(0).normal(size=(3, 4, 2))
    axes = prompt_figures.margins({"abide": Answers(("control", "autism"), table, scores)}).axes[0]
    margin = (scores[:, :, 1] - scores[:, :, 0]).mean(0)
    assert axes.get_title() == "abide (n = 4 subjects)" and axes.get_xlabel() == "score of autism - control"
    assert min(patch.get_x() for patch in axes.patches) == pytest.approx(margin.min())


def test_every_cohort_of_the_control_is_a_dot_and_chance_is_drawn_for_each_task():
    axes = prompt_figures.cohort_seeds({"abide": [0.45, 0.55], "srpbs": [0.3]}, CHANCES).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.45, 0.55]
    levels = [segment[0][1] for lines in axes.collections for segment in lines.get_segments()]
    assert levels == pytest.approx([0.5, 0.5, 0.3, 1 / 3])
