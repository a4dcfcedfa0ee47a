"""Table 4 from outcomes: means over tasks, classes, draws and seeds, and differences with the right people paired."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cinp_lib import ablation_figures
from cinp_lib.ablation_outcomes import Outcome
from cinp_lib.ablation_results import (
    ablation_metrics,
    by_task,
    by_variant,
    differences,
    loss_table,
    minus,
    prompting,
    same_people,
)
from cinp_lib.ablations import CONTROLS, VARIANTS
from study_lib.statistics import BootstrapSettings

QUICK = BootstrapSettings(draws=200)
SIZES = {"abide": (2, 21), "adhd200": (2, 17), "srpbs": (3, 15)}


def outcome(variant: str, seed: int = 0, right: float = 0.6, people: int = 0) -> Outcome:
    """Everybody is asked in one or two of three folds; `people` other than 0 are other people of the same names."""
    rng, rows = np.random.default_rng([seed, len(variant), people]), []
    for task, (classes, number) in SIZES.items():
        asked = np.random.default_rng([people, number])
        for k in range(number):
            for fold in sorted(asked.choice(3, 1 + k % 2, replace=False)):
                rows.append((task, f"fold {fold}", f"{task}{k}", k % classes, rng.binomial(10, right) / 10))
    answers = pd.DataFrame(rows, columns=["task", "fold", "subject", "label", "hits"])
    alignment = {"retrieval_r1": right / 4, "retrieval_r1_chance": 0.02}
    return Outcome("key", variant, seed, 80, 60, answers, alignment)


@pytest.fixture(scope="module")
def outcomes():
    rights = dict(zip(VARIANTS, (0.8, 0.7, 0.7, 0.7, 0.5, 0.5, 0.5), strict=True))
    return [outcome(name, seed, right, name == "uncoupled") for name, right in rights.items() for seed in (1, 0)]


def naive(groups):
    """Mean over two-class tasks and their classes of the mean over rows and seeds."""
    of_cells = []
    for task in ("abide", "adhd200"):
        for label in (0, 1):
            hits = [
                row.hits for one in groups for row in one.answers.itertuples() if (row.task, row.label) == (task, label)
            ]
            of_cells.append(sum(hits) / len(hits))
    return sum(of_cells) / 4


@pytest.mark.parametrize("name", ["inc", "uncoupled"])
def test_prompting_is_the_mean_over_two_class_tasks_classes_draws_and_seeds(outcomes, name):
    group = by_variant(outcomes)[name]
    own = prompting(group, QUICK)
    assert own.value == pytest.approx(naive(group))
    assert own.low < own.value < own.high
    # the uncoupled cohort of each seed has people of its own, whatever their names
    assert own.n == (21 + 17) * (2 if name == "uncoupled" else 1)


def test_seeds_that_asked_other_people_are_not_averaged(outcomes):
    group = by_variant(outcomes)["inc"]
    other = replace(group[1], answers=group[1].answers.iloc[1:])
    with pytest.raises(ValueError, match="inc: expected the same people and folds for all seeds"):
        prompting([group[0], other], QUICK)


def test_a_difference_is_paired_where_people_are_the_same_and_of_two_samples_where_they_are_not(outcomes):
    groups = by_variant(outcomes)
    for name in ("inc", "uncoupled"):
        own = minus(groups["inc_mim_inm"], groups[name], QUICK)
        assert own.value == pytest.approx(naive(groups["inc_mim_inm"]) - naive(groups[name]))
    copy = [replace(one, variant="inc") for one in groups["inc_mim_inm"]]
    paired = minus(groups["inc_mim_inm"], copy, QUICK)
    assert paired.value == paired.low == paired.high == 0
    elsewhere = [replace(one, variant="uncoupled") for one in groups["inc_mim_inm"]]
    apart = minus(groups["inc_mim_inm"], elsewhere, QUICK)
    assert apart.value == pytest.approx(0) and apart.low < -0.02 and apart.high > 0.02


def test_tasks_by_themselves_have_their_own_chance(outcomes):
    table = by_task(outcomes)
    assert len(table) == 3 * len(VARIANTS)
    assert dict(zip(table["task"], table["chance"], strict=True)) == {"abide": 0.5, "adhd200": 0.5, "srpbs": 1 / 3}
    own = table[(table["variant"] == "inc") & (table["task"] == "srpbs")].iloc[0]
    rows = pd.concat(one.answers for one in by_variant(outcomes)["inc"])
    rows = rows[rows["task"] == "srpbs"]
    assert own["balanced_accuracy"] == pytest.approx(rows.groupby("label")["hits"].mean().mean())


def test_the_table_says_which_losses_count_and_the_metrics_have_the_names_of_the_contract(outcomes):
    table = loss_table(outcomes).set_index("variant")
    assert list(table.index) == list(VARIANTS)
    assert table.loc["inc_inm", ["INC", "MIM", "INM"]].tolist() == ["x", "", "x"]
    assert table.loc["mim", ["INC", "MIM", "INM"]].tolist() == ["", "x", ""]
    assert (table["seeds"] == 2).all() and (table["lowest_seed"] <= table["prompting"]).all()
    metrics = ablation_metrics(outcomes)
    for name in VARIANTS:
        assert metrics[name] == pytest.approx(naive(by_variant(outcomes)[name]))
        assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]
    whole = metrics["inc_mim_inm"] - metrics["shuffled_pairs"]
    assert metrics["inc_mim_inm_minus_shuffled_pairs"] == pytest.approx(whole)
    assert all(np.isfinite(value) for value in metrics.values())


def test_outcomes_that_cannot_be_compared_are_refused(outcomes):
    with pytest.raises(ValueError, match="expected an outcome of inc_mim_inm, got those of mim"):
        differences([one for one in outcomes if one.variant == "mim"])
    many = outcomes[0].answers["task"] == "srpbs"
    with pytest.raises(ValueError, match="expected a task of two classes, got none"):
        prompting([replace(outcomes[0], answers=outcomes[0].answers[many])])
    assert same_people(by_variant(outcomes))
    other = outcome("inc", people=5)
    assert not same_people(by_variant([*(one for one in outcomes if one.variant != "inc"), other]))


def test_figures_show_every_variant_its_interval_and_chance(outcomes):
    labels = {name: one.words for name, one in VARIANTS.items()}
    table = loss_table(outcomes)
    figures = {
        "losses": ablation_figures.losses(table, labels, 0.5, "phantom"),
        "differences": ablation_figures.differences(differences(outcomes), labels, "phantom"),
        "tasks": ablation_figures.tasks(by_task(outcomes), labels, "phantom"),
    }
    for name, figure in figures.items():
        axes = figure.axes[0]
        words = [label.get_text() for label in axes.get_yticklabels()]
        assert words == [labels[own] for own in VARIANTS if name != "differences" or own != "inc_mim_inm"]
        assert len(axes.containers) == len(words)
        verticals = [
            line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1 and line.get_ls() != "None"
        ]
        assert (0 if name == "differences" else 0.5) in verticals
        plt.close(figure)
    assert len({ablation_figures.colour(name) for name in VARIANTS}) == 3
    assert {ablation_figures.colour(name) for name in CONTROLS} == {ablation_figures.CONTROL_COLOUR}
