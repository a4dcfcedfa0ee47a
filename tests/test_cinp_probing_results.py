"""Table 2, its differences and metrics, and their figures, show the predictions they are given."""

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from test_cinp_predictions import predictions

from cinp_lib import probing_figures
from cinp_lib.probing_results import METHODS, differences, gains, method_scores, probing_metrics, site_scores
from study_lib.papers import cinp_gains
from study_lib.statistics import BootstrapSettings, holm

matplotlib.use("Agg")
FEW = BootstrapSettings(draws=100)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found():
    skills = {"phenotype": 0.1, "cinp": 1.5, "mim_only": 0.5, "fcn_linear": 2.0}
    made = {name: predictions(skill=skill, seed=k) for k, (name, skill) in enumerate(skills.items())}
    return {"abide": made, "srpbs": {"cinp": predictions(classes=3), "cnn": predictions(classes=3, seed=4, skill=0.2)}}


def test_the_table_has_every_measure_of_every_method_in_the_order_of_the_house(found):
    table = method_scores(found, FEW)
    assert table["method"].tolist() == ["cinp", "mim_only", "fcn_linear", "phenotype", "cinp", "cnn"]
    row = table.iloc[1]
    own = found["abide"]["mim_only"]
    assert row["sensitivity"] == own.value("sensitivity") and row["predictions"] == len(own)
    assert row["auroc_low"] == own.interval("auroc", FEW).low
    assert row["majority_rate"] == own.summary(FEW)["majority_rate"]
    assert table["chance"].tolist()[-1] == pytest.approx(1 / 3)


def test_differences_are_to_the_image_embedding_and_corrected_within_a_task(found):
    table = differences(found, settings=FEW)
    own = table[table["task"] == "abide"]
    assert own["method"].tolist() == ["mim_only", "fcn_linear", "phenotype"]
    cinp = found["abide"]["cinp"]
    assert own["low"].tolist() == [cinp.minus(found["abide"][name], settings=FEW).low for name in own["method"]]
    assert own["p_value_holm"].tolist() == pytest.approx(holm(own["p_value"]).tolist())
    assert table.iloc[-1]["p_value_holm"] == table.iloc[-1]["p_value"], "one method of its task"


def test_metrics_have_the_names_that_outside_checks_read(found):
    metrics = probing_metrics(method_scores(found, FEW), differences(found, settings=FEW))
    names = {"abide_cinp_balanced_accuracy", "srpbs_cnn_auroc", "abide_chance", "srpbs_chance", "abide_cinp_low"}
    names |= {"abide_cinp_minus_mim_only_low", "abide_cinp_minus_phenotype_high", "srpbs_cinp_minus_cnn_low"}
    assert names <= set(metrics)
    assert metrics["abide_fcn_linear_auroc"] == found["abide"]["fcn_linear"].value("auroc")
    assert metrics["srpbs_chance"] == pytest.approx(1 / 3)


def test_gains_are_points_over_the_best_of_a_group(found):
    table = method_scores(found, FEW)
    made = gains(table).set_index(["task", "group"])["points"]
    cinp, mim = (found["abide"][name].value("accuracy") for name in ("cinp", "mim_only"))
    assert made["abide", "sMRI-based"] == pytest.approx(100 * (cinp - mim))
    assert ("srpbs", "FCN-based") not in made.index


def test_scores_of_sites_end_with_all_of_them(found):
    table = site_scores({"abide": found["abide"]["cinp"]}, FEW)
    assert table["site"].tolist() == ["S0", "S1", "S2", "all"]
    assert table["balanced_accuracy"].iloc[-1] == found["abide"]["cinp"].value()


def test_an_unknown_method_or_none_to_compare_with_is_refused(found):
    with pytest.raises(KeyError, match="got forest"):
        method_scores({"abide": found["abide"] | {"forest": found["abide"]["cinp"]}}, FEW)
    with pytest.raises(KeyError, match="expected 'cinp'"):
        differences({"abide": {"cnn": found["abide"]["cinp"]}}, settings=FEW)


def test_panels_show_the_scores_chance_and_the_oracle(found):
    table = method_scores(found, FEW)
    figure = probing_figures.method_panels(table, "balanced_accuracy", {"abide": 0.71}, "phantom")
    first, second = figure.axes
    drawn = {float(x) for container in first.containers for x in container[0].get_xdata()}
    assert drawn == set(table.loc[table["task"] == "abide", "balanced_accuracy"])
    lines = [line.get_xdata()[0] for line in first.lines if line.get_linestyle() in (":", "--")]
    assert lines == [0.5, 0.71]
    assert [line.get_xdata()[0] for line in second.lines if line.get_linestyle() == ":"] == [pytest.approx(1 / 3)]
    assert [label.get_text() for label in first.get_yticklabels()] == [
        METHODS[n].label for n in dict.fromkeys(table["method"])
    ]


def test_differences_are_drawn_in_points_with_full_dots_where_they_hold(found):
    table = differences(found, settings=FEW).assign(p_value_holm=[0.01, 0.2, 0.3, 0.4])
    axes = probing_figures.difference_forest(table, "phantom").axes[0]
    drawn = [container[0] for container in axes.containers]
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx((100 * table["difference"][:3]).tolist())
    assert [line.get_markerfacecolor() == "white" for line in drawn] == [False, True, True]


def test_ours_and_the_studys_gains_stand_in_panels_of_their_own(found):
    figure = probing_figures.gains_beside(gains(method_scores(found, FEW)), cinp_gains(), "phantom")
    theirs, ours = figure.axes
    assert [bar.get_height() for bar in theirs.patches] == [1.46, 1.26, 1.21]
    assert "phantom" in ours.get_title() and len(ours.patches) == 2


def test_sites_and_states_of_scans_have_a_place_each(found):
    figure = probing_figures.site_panels(site_scores({"abide": found["abide"]["cinp"]}, FEW))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["S0", "S1", "S2", "all"]
    rows = [
        {"question": question, "scans": scans, "value": value, "low": value - 0.1, "high": value + 0.1, "chance": 0.25}
        for question, value in (("site", 0.9), ("diagnosis", 0.6))
        for scans in ("as they are", "harmonised")
    ]
    figure = probing_figures.before_and_after(pd.DataFrame(rows))
    assert [ax.containers[0][0].get_ydata().tolist() for ax in figure.axes] == [[0.9, 0.9], [0.6, 0.6]]
