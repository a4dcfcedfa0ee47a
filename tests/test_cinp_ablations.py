"""Variants of pre-training as jobs: what each trains on, what finishes, what is done again, and what goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_ablations import PLAN, PROMPTING, write_pretraining
from small_tasks import embeddings
from typer.testing import CliRunner

from cinp_lib.ablate_command import app
from cinp_lib.ablation_outcomes import COLUMNS, Outcome, told
from cinp_lib.ablation_runs import Job, Places, finished, job_key, material, run_all, run_job
from cinp_lib.ablations import VARIANTS, plan_for, variant
from cinp_lib.pair_store import PairStore, parts_of
from cinp_lib.pretrain import fit, training_key
from cinp_lib.prompt_study import Material, study_task
from cinp_lib.tasks import tasks_of
from cinp_lib.uncoupled_pairs import uncoupled_pairs
from study_lib.training import Ranks

INC = Job("inc", 0)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    return write_pretraining(tmp_path_factory.mktemp("07"))


@pytest.fixture(scope="module")
def done(pretraining, tmp_path_factory):
    """The outcome of one job, and where it lies."""
    places = Places(pretraining, tmp_path_factory.mktemp("variants"))
    return run_job(INC, PLAN, places, "cpu"), places


def same(one: Outcome, other: Outcome) -> bool:
    facts = [replace(outcome, answers=None, key="") for outcome in (one, other)]
    return vars(facts[0]) == vars(facts[1]) and one.answers.equals(other.answers)


def test_variants_differ_in_their_losses_or_pairs_and_in_nothing_else():
    configs = {name: plan_for("demo").config(name, 3) for name in VARIANTS}
    switched = {name: tuple(vars(config.objective.weights).values()) for name, config in configs.items()}
    assert switched == {
        "inc_mim_inm": (1.0, 1.0, 1.0),
        "inc_mim": (1.0, 1.0, 0.0),
        "inc_inm": (1.0, 0.0, 1.0),
        "inc": (1.0, 0.0, 0.0),
        "mim": (0.0, 1.0, 0.0),
        "shuffled_pairs": (1.0, 1.0, 1.0),
        "uncoupled": (1.0, 1.0, 1.0),
    }
    assert configs["mim"].model.components == 0 < configs["inc"].model.components  # nothing would align them
    alone = {name: config.without_components for name, config in configs.items()}
    alike = {name: replace(config, objective=configs["inc"].objective) for name, config in alone.items()}
    assert all(config == alike["inc"] for config in alike.values())
    assert len({(config.model, config.component_steps) for name, config in configs.items() if name != "mim"}) == 1
    assert alike["inc"].seed == 3


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_every_profile_trains_for_its_share_and_real_data_have_no_uncoupled_cohort(profile):
    plan = plan_for(profile)
    assert plan.config("inc", 0).iterations == plan.iterations == round(plan.share * plan.training.iterations)
    assert ("uncoupled" in plan.variants) == (profile != "paper")
    assert plan_for(profile, 0.5).share == 0.5
    if plan.uncoupled:
        assert plan.uncoupled.coupling == 0 and plan.uncoupled.per_site == plan.uncoupled.travelling == 0


def test_a_share_or_a_variant_without_sense_is_refused():
    with pytest.raises(ValueError, match=r"AblationPlan.share: expected a number above 0, at most 1, got 1.5"):
        plan_for("demo", 1.5)
    with pytest.raises(KeyError, match=r"variant: expected one of inc_mim_inm, .* got 'inm'"):
        variant("inm")


def test_shuffled_pairs_are_exchanged_within_sites_to_train_and_to_choose_but_not_to_test(pretraining, tmp_path):
    places = Places(pretraining, tmp_path)
    job = Job("shuffled_pairs", 3)
    true, ours = parts_of(PairStore.open(places.pairs)), material(job, PLAN, places, (1, None))[0]
    for part in ("training", "validation", "test"):
        own, other = getattr(true, part), getattr(ours, part)
        assert own.table.equals(other.table) and np.array_equal(own.places, other.places)
        expected = own if part == "test" else own.shuffled(3)
        assert np.array_equal(other.network_places, expected.network_places)
    moved = true.training.network_places != ours.training.network_places
    assert moved.mean() > 0.5


def test_nobody_of_the_tasks_is_trained_on(done):
    outcome, places = done
    trained = set(PairStore.open(places.pairs).table["subject"])
    assert not trained & set(outcome.answers["subject"])


def test_an_outcome_holds_a_row_for_each_test_person_and_fold_and_comes_back_from_its_file(done):
    outcome, places = done
    assert list(outcome.answers) == list(COLUMNS)
    assert set(outcome.answers["task"]) == {"abide", "adhd200"}
    assert not outcome.answers.duplicated(["task", "fold", "subject"]).any()
    assert outcome.answers["hits"].between(0, 1).all()
    assert outcome.alignment["retrieval_gallery"] == len(parts_of(PairStore.open(places.pairs)).test)
    assert outcome.iterations == 4 and outcome.kept <= 4
    assert same(Outcome.load(places.outcome(INC)), outcome)


def test_the_answers_are_those_of_the_headline_of_prompting():
    own = embeddings(60)
    plan = replace(PROMPTING, repeats=2)
    rows = told(own, plan)
    for task in tasks_of(own.table).values():
        answers = study_task(Material.of(task, own), plan).answers["prompt"]
        mine = rows[rows["task"] == task.name]
        assert mine["subject"].tolist() == answers.table["subject"].tolist()
        assert np.allclose(mine["hits"], answers.hits.mean(axis=0), atol=1e-6)


def test_a_finished_job_is_read_and_not_done_again(done):
    outcome, places = done
    before = places.outcome(INC).stat().st_mtime_ns, sorted((places.out / "training").iterdir())
    assert same(run_job(INC, PLAN, places, "cpu"), outcome)
    assert same(run_all([INC], PLAN, places, "cpu")[0], outcome)
    assert before == (places.outcome(INC).stat().st_mtime_ns, sorted((places.out / "training").iterdir()))


@pytest.mark.parametrize(
    ("job", "plan"),
    [
        (Job("inc", 1), PLAN),
        (INC, replace(PLAN, share=0.25)),
        (INC, replace(PLAN, prompting=replace(PROMPTING, draws=5))),
        (INC, replace(PLAN, training=replace(PLAN.training, learning_rate=2e-3))),
    ],
)
def test_other_settings_are_another_outcome(done, job, plan):
    _, places = done
    assert job_key(job, plan, places) != job_key(INC, PLAN, places)
    assert finished(job, plan, places) is None


def test_other_pairs_are_another_outcome(done, tmp_path):
    _, places = done
    other = replace(places, pretraining=write_pretraining(tmp_path, number=20))
    assert finished(INC, PLAN, other) is None


def test_variants_begin_with_the_image_weights_of_notebook_07(tmp_path):
    places = Places(tmp_path, tmp_path)
    assert places.plan("paper").config("inc", 0).image_weights == ""
    record = {"parameters": {"image_weights": "model_swinvit.pt"}}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert places.plan("paper", 0.5).config("inc", 0).image_weights == "model_swinvit.pt"


def test_the_phantom_and_the_other_variants_do_not_depend_on_each_other(done):
    _, places = done
    plans = [replace(PLAN, uncoupled=plan_for("smoke").uncoupled), replace(PLAN, uncoupled=plan_for("demo").uncoupled)]
    assert len({job_key(INC, plan, places) for plan in plans}) == 1
    assert len({job_key(Job("uncoupled", 0), plan, places) for plan in plans}) == 2
    elsewhere = replace(places, pretraining=places.out / "nowhere")
    assert job_key(Job("uncoupled", 0), plans[0], elsewhere) == job_key(Job("uncoupled", 0), plans[0], places)


def test_a_job_that_was_stopped_goes_on_and_ends_in_the_same_outcome(done, tmp_path):
    outcome, places = done
    again = replace(places, out=tmp_path)
    parts, config = parts_of(PairStore.open(again.pairs)), PLAN.config("inc", 0)
    folder = again.out / "training" / training_key(config, parts.training)
    for record in fit(parts.training, folder, config, parts.validation, Ranks("cpu")):
        if record["iteration"] == 3:  # saved; stopped before the next
            break
    assert finished(INC, PLAN, again) is None
    assert same(run_job(INC, PLAN, again, "cpu"), outcome)


def test_half_a_file_counts_as_none(done, tmp_path):
    _, places = done
    again = replace(places, out=tmp_path)
    text = places.outcome(INC).read_text()
    again.outcome(INC).write_text(text[: len(text) // 2])
    assert finished(INC, PLAN, again) is None
    again.outcome(INC).write_text(json.dumps({"key": json.loads(text)["key"]}))
    assert finished(INC, PLAN, again) is None


@pytest.mark.slow  # every process imports torch
def test_jobs_side_by_side_end_as_one_alone_does(done, tmp_path):
    outcome, places = done
    found = run_all([Job("mim", 0), INC], PLAN, replace(places, out=tmp_path), "cpu", n_jobs=2)
    assert [one.variant for one in found] == ["mim", "inc"]
    assert same(found[1], outcome)


def test_a_profile_without_a_phantom_refuses_the_uncoupled_variant(done, tmp_path):
    _, places = done
    with pytest.raises(ValueError, match="variant uncoupled: there is no phantom in this profile"):
        run_job(Job("uncoupled", 0), PLAN, replace(places, out=tmp_path), "cpu")
    with pytest.raises(ValueError, match=r"expected a cohort with coupling 0, got 0.9"):
        uncoupled_pairs(tmp_path, replace(plan_for("smoke").uncoupled, coupling=0.9), PLAN.pairs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variant", "inm"], "variant: expected one of inc_mim_inm"),
        (["--variant", "inc", "--preset", "fast"], "expected one of smoke, demo, paper"),
        (["--variant", "inc", "--share", "2"], "expected a number above 0, at most 1, got 2.0"),
        (["--variant", "inc"], "expected whole files of pairs"),
    ],
)
def test_the_command_says_what_is_wrong_and_ends_with_2(tmp_path, options, said):
    given = ["--pretraining", str(tmp_path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*given, *options])
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.slow
def test_the_uncoupled_cohort_is_made_once_and_leaves_prepared_pairs_alone(tmp_path):
    plan = plan_for("smoke", 0.1)
    spec = replace(plan.uncoupled, pretraining=24, per_task=24)
    plan = replace(plan, uncoupled=spec, prompting=PROMPTING, training=replace(plan.training, batch=12))
    places = Places(tmp_path / "nothing", tmp_path / "variants")
    with pytest.warns(UserWarning, match=r"left out: pre0017 \(GSEV\): the brain does not fit"):
        outcome = run_job(Job("uncoupled", 2), plan, places, "cpu")
    assert set(outcome.answers["task"]) == {"abide", "adhd200", "srpbs"}
    assert set(outcome.two_class["task"]) == {"abide", "adhd200"}
    folder = places.out / "pairs-uncoupled-2"
    assert not (folder / "cohort").exists()
    before = (folder / "uncoupled.json").stat().st_mtime_ns
    stores = uncoupled_pairs(folder, replace(spec, seed=2), plan.pairs)
    made, left_out = stores["pretraining"].table, stores["pretraining"].excluded
    # the seed's one brain that is too large for the grid is told of
    assert len(made) == 23 and left_out["subject"].tolist() == ["pre0017"] and set(made["role"]) == {"pre-training"}
    assert before == (folder / "uncoupled.json").stat().st_mtime_ns
