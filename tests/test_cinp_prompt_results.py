"""Tables and metrics of the prompting study: whose numbers they are, and that an oracle is no method."""

import json

import numpy as np
import pandas as pd
import pytest
from small_tasks import embeddings

from cinp_lib.prompt_results import (
    difference_table,
    few_beat_all,
    left_of_oracle,
    method_table,
    prompt_metrics,
    with_oracle,
    with_true_traits,
)
from cinp_lib.prompt_study import PromptPlan, prompt_study
from study_lib.phantom.truth import Truth


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two tasks, and a truth in which the traits of every second person give the diagnosis away."""
    made, folder = embeddings(60, shift=1.5), tmp_path_factory.mktemp("truth")
    names = sorted(set(made.table["diagnosis"]))
    shifts = {name: [3.0 * (name == other) for other in names] for name in names}
    traits = np.array([shifts[name] for name in made.table["diagnosis"]])
    traits[::2] = 0.1 * np.array(shifts["control"])
    table = pd.DataFrame(traits, columns=[f"trait_{k}" for k in range(4)]).assign(subject=made.table["subject"])
    for name in ("anatomy_traits", "network_traits"):
        table.set_index("subject").to_csv(folder / f"{name}.tsv", sep="\t")
    (folder / "effects.json").write_text(json.dumps({"anatomy_shift": shifts}))
    plan = PromptPlan(fraction=0.5, fractions=(0.5, 1.0), subsets=(1,), repeats=3, draws=6, probe_draws=1)
    known = {task: with_oracle(own, Truth(folder)) for task, own in prompt_study(made, plan).items()}
    return {task: with_true_traits(own, Truth(folder), plan) for task, own in known.items()}


def test_prompting_with_true_traits_asks_the_same_people_in_the_same_draws(studies):
    study = studies["abide"]
    traits, prompted = study.answers["prompt_of_traits"], study.answers["prompt"]
    assert traits.table.equals(prompted.table) and traits.scores.shape == prompted.scores.shape
    assert traits.recalls()["control"] > 0.9 and 0.2 < traits.recalls()["autism"] < 0.8  # half of them have traits


def test_the_oracle_knows_half_of_the_patients_and_calls_the_others_controls(studies):
    oracle = studies["abide"].answers["oracle"]
    assert oracle.recalls()["control"] == 1 and 0.2 < oracle.recalls()["autism"] < 0.8
    own = studies["abide"].answers["prompt"].interval().value
    assert left_of_oracle(studies["abide"]) == pytest.approx((own - 0.5) / (oracle.interval().value - 0.5))


def test_the_table_has_every_method_of_every_task_and_metrics_repeat_it(studies):
    table = method_table(studies)
    assert set(table["task"]) == {"abide", "srpbs"} and {"prompt", "centroid", "probe_100"} <= set(table["method"])
    row = table.set_index(["task", "method"]).loc["srpbs", "centroid"]
    metrics = prompt_metrics(table, studies, {"abide": [0.4, 0.6]})
    assert metrics["srpbs_centroid_balanced_accuracy"] == row["balanced_accuracy"]
    assert metrics["abide_prompt_uncoupled_balanced_accuracy"] == 0.5
    assert "srpbs_prompt_uncoupled_balanced_accuracy" not in metrics
    assert (
        metrics["srpbs_chance"] == pytest.approx(1 / 3) and metrics["abide_prompt_low"] < metrics["abide_prompt_high"]
    )
    assert np.isfinite(list(metrics.values())).all()


def test_balanced_accuracy_of_two_classes_is_the_mean_of_the_two_recalls(studies):
    own = method_table(studies).query("task == 'abide'")
    mean = (own["recall_of_controls"] + own["recall_of_patients"]) / 2
    assert own["balanced_accuracy"].to_numpy() == pytest.approx(mean.to_numpy())


def test_differences_are_between_methods_that_were_made(studies):
    found = difference_table(studies, ("centroid", "probe", "unheard of"))
    assert found["minus"].tolist() == ["centroid", "probe"] * 2
    values = method_table(studies).set_index(["task", "method"])["balanced_accuracy"]
    assert found["difference"].iloc[0] == pytest.approx(values["abide", "prompt"] - values["abide", "centroid"])


def test_few_beat_all_counts_draws_within_folds(studies):
    study = studies["abide"]
    few, everything = (study.answers[name].over_draws() for name in ("prompt", "prompt_100"))
    counted = [few[d, k] > everything[:, k].mean() for d in range(6) for k in range(3)]
    assert few_beat_all(study) == pytest.approx(np.mean(counted))
