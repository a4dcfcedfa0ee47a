"""Figures of site classification show the numbers they are given, and chance."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from site_slices import site_slices

from gan_lib import site_figures
from gan_lib.site_classifier.explanation import middle_slices
from gan_lib.site_classifier.planting import Mark
from study_lib.papers import protocol_classification

matplotlib.use("Agg")
PAIRS = ("ADNI, GMC", "ADNI, SMC", "Mean")


def table() -> pd.DataFrame:
    rows = [
        {"attack": attack, "pair": pair, "accuracy": base + k, "low": base + k - 4, "high": base + k + 2}
        for attack, base in (("before", 90.0), ("after_frozen", 55.0), ("after_fresh", 60.0))
        for k, pair in enumerate(PAIRS)
    ]
    return pd.DataFrame(rows)


def test_ours_and_the_studys_numbers_stand_in_panels_of_their_own():
    figure = site_figures.pair_accuracies(table(), protocol_classification(), "phantom")
    theirs, ours = figure.axes
    assert "phantom" in ours.get_title() and "study" in theirs.get_title()
    drawn = [container[0].get_xdata().tolist() for container in ours.containers]
    assert drawn == [[90, 91, 92], [55, 56, 57], [60, 61, 62]]
    low, high = ours.containers[0][2][0].get_segments()[0][:, 0]
    assert (low, high) == (86, 92)
    assert theirs.containers[0][0].get_xdata()[0] == 96.5299
    assert all(
        any(line.get_linestyle() == ":" and line.get_xdata()[0] == 50 for line in ax.lines) for ax in figure.axes
    )


def test_bars_begin_at_chance_and_have_the_order_of_their_labels():
    rows = pd.DataFrame({"attack": ["x", "y"], "accuracy": [20.0, 80.0], "low": [np.nan, 70], "high": [np.nan, 85]})
    figure = site_figures.attack_bars(rows, {"y": "Y", "x": "X"}, 25, dark=("y",))
    bars = figure.axes[0].patches
    assert [bar.get_x() for bar in bars] == [25, 25] and [bar.get_width() for bar in bars] == [55, -5]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["Y", "X"]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()


def test_confusions_share_one_scale_and_show_percent():
    matrix = pd.DataFrame([[75.0, 25], [40, 60]], ["A", "B"], ["A", "B"])
    figure = site_figures.confusions({"before": matrix, "after": matrix.T})
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25", "40", "60"]
    assert {ax.images[0].get_clim() for ax in figure.axes[:2]} == {(0, 100)}


def test_attention_is_drawn_on_the_brain_alone():
    slices = middle_slices(site_slices())
    maps = np.ones(slices.images.shape)
    figure = site_figures.attention_rows({"before": (slices, maps), "after": (slices, 2 * maps)})
    shown = figure.axes[0].images[1].get_array()
    assert np.array_equal(np.ma.getmaskarray(shown), slices.images[0] == 0)
    assert figure.axes[0].images[1].get_clim() == (0, 1) and figure.axes[3].images[1].get_clim() == (0, 2)


def test_the_mark_is_shown_alone_on_its_own_scale():
    plain = site_slices().images[0]
    figure = site_figures.mark_panels(plain, Mark(0.1).on(plain[None])[0])
    assert figure.axes[2].images[0].get_clim()[1] == pytest.approx(0.1, abs=2e-3)


def test_looks_at_validation_are_in_percent():
    records = pd.DataFrame({"step": [1, 2], "validation_loss": [1.0, 0.5], "validation_accuracy": [0.25, 0.75]})
    figure = site_figures.looks_at_validation({"before": records}, 25)
    assert figure.axes[1].lines[0].get_ydata().tolist() == [25, 75]
