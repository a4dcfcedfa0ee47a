"""Curves of a training."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study_lib.curves import live_curves, training_curves

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_training_curves_draw_columns_that_are_recorded_less_often_too():
    records = pd.DataFrame({"iteration": [10, 20, 30, 40], "cycle": [4.0, 3, 2, 1], "error": [np.nan, 2, np.nan, 1]})
    figure = training_curves(records, {"all": ["cycle", "error"]}, smooth=1)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["error"].get_xdata().tolist() == [20, 40] and lines["error"].get_ydata().tolist() == [2, 1]
    assert len(training_curves(records).axes) == 2
    with pytest.raises(KeyError, match="the records have no style; they have iteration, cycle, error"):
        training_curves(records, {"style": ["style"]})


def test_live_curves_show_the_panels_that_are_recorded_and_nothing_before_there_is_anything():
    panels = {"losses": ["loss", "cycle"], "temperature": ["tau"], "other": ["style"]}
    assert not live_curves([], panels).axes[0].lines
    records = [{"iteration": 1.0, "loss": 2.0, "tau": 0.1}, {"iteration": 2.0, "loss": 1.0, "tau": 0.2}]
    figure = live_curves(records, panels)
    assert [ax.get_title() for ax in figure.axes] == ["losses", "temperature"]
    assert [line.get_label() for line in figure.axes[0].lines] == ["loss"]
