"""The prompting study: who is used for what, and what it finds where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from small_tasks import embeddings

from cinp_lib.folds import repeated_folds
from cinp_lib.prompt_answers import Answers
from cinp_lib.prompt_study import (
    PLANS,
    Material,
    PromptPlan,
    best_subsets,
    fixed_answers,
    held_out_answers,
    nearest_centroid,
    prompt,
    prompt_study,
    validation_cells,
)
from cinp_lib.tasks import tasks_of

PLAN = PromptPlan(fraction=0.5, fractions=(0.2, 0.5, 1.0), subsets=(1, 2, 8), repeats=3, draws=10, probe_draws=2)
BEST = {(0.5, False): 2, (0.5, True): 2, (1.0, False): 1}


@pytest.fixture(scope="module")
def material() -> Material:
    made = embeddings()
    return Material.of(tasks_of(made.table)["srpbs"], made)


@pytest.fixture(scope="module")
def fold(material):
    return repeated_folds(material.task, 1)[0]


@pytest.fixture(scope="module")
def study():
    return prompt_study(embeddings(shift=1.5), PLAN)


def test_prompting_finds_what_image_and_network_share_and_no_more(study):
    assert list(study) == ["abide", "srpbs"]
    for own in study.values():
        assert own.answers["prompt"].interval().low > own.answers["prompt"].chance
    short = replace(PLAN, subsets=(1,), fractions=(0.5,))
    apart = [prompt_study(embeddings(coupled=False, seed=k), short, seed=k) for k in range(3)]
    for task, chance in (("abide", 1 / 2), ("srpbs", 1 / 3)):
        assert np.mean([own[task].answers["prompt"].interval().value for own in apart]) == pytest.approx(
            chance, abs=0.08
        )


def test_what_test_people_are_told_does_not_depend_on_their_networks_or_labels(material, fold):
    networks, table = material.networks.copy(), material.task.table.copy()
    networks[fold.test] = np.nan
    networks[fold.validation] = 7
    others = np.roll(table["diagnosis"].to_numpy()[fold.test], 1)
    table.loc[fold.test, "diagnosis"] = others
    blind = Material(replace(material.task, table=table), material.images, networks)
    told = [held_out_answers(own, fold, PLAN, 3, BEST) for own in (material, blind)]
    assert list(told[0]) == [
        *("prompt", "prompt_centred", "centroid", "probe", "prompt_unit"),
        *("prompt_100", "prompt_centred_100", "centroid_100", "probe_100"),
    ]
    for method, answers in told[0].items():
        assert np.array_equal(answers.scores, told[1][method].scores), method


def test_people_without_a_network_are_asked_but_are_no_references(material, fold):
    networks = material.networks.copy()
    networks[fold.training[::5]] = np.nan
    fewer = Material(material.task, material.images, networks)
    assert len(fewer.references(fold.training)) == len(fold.training) - len(fold.training[::5])
    told = held_out_answers(fewer, fold, PLAN, 0, BEST)
    assert told["prompt"].table["subject"].tolist() == material.task.table["subject"][fold.test].tolist()


def test_the_centroid_is_the_nearest_mean_of_the_images_of_those_whose_networks_prompt(material, fold):
    classifier = prompt(material, fold, (0.5, 2, False), 3, 11)
    found, y = nearest_centroid(material, fold, classifier).scores.argmax(2), material.task.y
    for draw in range(3):
        people = material.references(fold.training)[classifier.drawn(draw)]
        for k, person in enumerate(fold.test):
            distances = [
                np.linalg.norm(material.images[person] - material.images[[p for p in people if y[p] == c]].mean(0))
                for c in range(3)
            ]
            assert found[draw, k] == np.argmin(distances)


def test_cells_that_ask_for_more_subsets_than_a_class_has_networks_are_left_out(material, fold):
    cells = validation_cells(material, fold, PLAN, 0)
    smallest = np.bincount(material.task.y[fold.training]).min()
    assert {(f, r) for f, r, _ in cells} == {
        (f, r) for f in PLAN.fractions for r in PLAN.subsets if r <= smallest * f + 1
    }
    assert (0.2, 8, False) not in cells and (1.0, 8, True) in cells


def test_the_best_number_of_subsets_is_the_one_of_the_best_validation_answers_and_the_smallest_of_equals(
    material, fold
):
    good, bad = (
        material.answers(fold.validation, fold, np.eye(3)[None, (material.task.y[fold.validation] + k) % 3])
        for k in (0, 1)
    )
    tried = {
        (0.5, 1, False): bad,
        (0.5, 2, False): good,
        (0.5, 5, False): good,
        (1.0, 1, False): good,
        (0.5, 1, True): good,
    }
    assert best_subsets(tried, 0.5, False) == 2


def test_the_grid_and_the_choices_name_every_fold_and_test_people_are_asked_once_in_each(study):
    study = study["srpbs"]
    assert len(study.folds) == 3 and study.chosen["fold"].nunique() == 3
    assert set(study.grid["r"]) == {1, 2, 8} and set(study.grid["references"]) == {"mean", "length 1"}
    assert (study.grid["draws_low"] <= study.grid["balanced_accuracy"]).all()
    assert (study.grid["balanced_accuracy"] <= study.grid["draws_high"]).all()
    for answers in study.answers.values():
        assert not answers.table.duplicated(["fold", "subject"]).any()
        assert len(answers.table) == sum(len(fold.test) for fold in study.folds)


def test_an_oracle_is_scored_on_the_people_of_the_folds(material):
    folds = repeated_folds(material.task, 2)
    right = fixed_answers(material.task, folds, material.task.table["diagnosis"])
    assert isinstance(right, Answers) and right.interval().value == 1 and right.scores.shape[0] == 1
    assert fixed_answers(material.task, folds, ["control"] * 90).interval().value == pytest.approx(1 / 3)


def test_plans_are_checked_and_draw_at_least_a_hundred_times():
    assert all(plan.draws >= 100 and plan.probe_draws >= 10 for plan in PLANS.values())
    with pytest.raises(ValueError, match=r"PromptPlan\.fraction: expected one of"):
        PromptPlan(fraction=0.3)
    with pytest.raises(ValueError, match="1 <= probe_draws <= draws"):
        PromptPlan(draws=5)
