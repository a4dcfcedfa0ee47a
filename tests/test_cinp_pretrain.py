"""The pre-training loop: stopped anywhere and called again, it ends in the same weights; several ranks train as one."""

import itertools
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from resumed_runs import alone, content, expect_same_end, served, timeless, undisturbed
from small_cinp import CALM, MODEL, STILL, TRAINING
from small_pairs import halves, people, write_store

from cinp_lib.losses import LossWeights
from cinp_lib.objective import ObjectiveConfig
from cinp_lib.pair_sampler import PairSampler
from cinp_lib.pretrain import fit, train_step, trained_model, training_key
from cinp_lib.pretraining_state import PretrainingConfig, State
from cinp_lib.retrieval import retrieval
from cinp_lib.validation import reconstruction_error, validation_scores
from study_lib.training import CALL_AGAIN, Checkpoints, NonFiniteLoss, Ranks

KILLED = -signal.SIGKILL
LAYERS = ("linear", "of_components")  # of a projection
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return halves(write_store(tmp_path_factory.mktemp("pairs"), people()))


@pytest.fixture(autouse=True)
def one_rank_and_thread(monkeypatch):
    with alone(monkeypatch):
        yield


@pytest.fixture(scope="module")
def ask(repository, tmp_path_factory):
    """Training in processes of their own."""
    with served(repository / "tests" / "cinp_runs.py", tmp_path_factory.mktemp("served")) as request:
        yield request


@pytest.fixture(scope="module")
def whole(ask, tmp_path_factory):
    return undisturbed(ask, tmp_path_factory.mktemp("whole"))


def train(stores, folder, **changes):
    """In this process, to the end."""
    return list(fit(stores[0], folder, replace(TRAINING, **changes), stores[1], Ranks("cpu")))


def test_a_run_yields_a_record_for_each_stretch_and_leaves_best_and_last_state(whole):
    folder, records, _ = whole
    assert [record["iteration"] for record in records] == list(range(9)) and len(records) == TRAINING.records
    start, *records = records
    assert set(start) == {
        "iteration",
        *(f"validation_{name}" for name in ("contrastive", "r1", "reciprocal_rank", "error")),
    }
    names = {"loss", "contrastive", "reconstruction", "matching", "tau", "gradient_norm", "pairs_per_second"}
    assert all(names <= set(record) for record in records)
    assert all(math.isfinite(value) for record in records for value in record.values())
    errors = {r["iteration"]: r["validation_error"] for r in (start, *records) if "validation_error" in r}
    assert set(errors) == {0, 4, 8} and content(folder).step == 8
    best = content(folder, "best")
    assert errors[best.step] == min(errors.values()) == best.state["best"]
    assert len({record["tau"] for record in records}) == 8  # the temperature moves


@pytest.mark.parametrize("kept", ["best", "newest", "start"])
def test_the_model_that_training_gives_is_that_of_the_best_the_last_or_the_first_state(whole, stores, kept):
    model, record = trained_model(whole[0], TRAINING, kept)
    assert record["iteration"] == {"best": content(whole[0], "best").step, "newest": 8, "start": 0}[kept]
    assert not model.training
    found = validation_scores(model, stores[1], TRAINING)
    assert found["error"] == pytest.approx(record["validation_error"], rel=1e-6)


def test_a_model_of_a_folder_without_training_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train first"):
        trained_model(tmp_path, TRAINING)


def test_killed_and_started_again_it_ends_in_the_weights_of_an_uninterrupted_run(ask, whole, tmp_path):
    """At a random moment, within the write of a checkpoint, and after one has its name; one run survives all three."""
    moment = float(np.random.default_rng(0).uniform(0.2, 0.9)) * whole[2]
    assert ask(tmp_path, kill_after=moment)["codes"] == [KILLED]
    assert ask(tmp_path, kill_at_sync=1)["codes"] == [KILLED]
    assert list((tmp_path / "checkpoints").glob(".partial-*"))  # a half that the next start must not mistake
    assert ask(tmp_path, kill_at_sync=2)["codes"] == [KILLED]
    answer = ask(tmp_path)
    assert answer["codes"] == [0]
    assert timeless(answer["said"][0]["records"]) == timeless(whole[1])
    expect_same_end(tmp_path, whole[0])


@pytest.mark.slow
def test_twenty_random_kill_points_change_no_bit(ask, whole, tmp_path):
    """Each once on a run of its own; six of them at a random call that makes a checkpoint safe."""
    rng = np.random.default_rng(1)
    points = [{"kill_after": share * whole[2]} for share in rng.uniform(0, 1, 14)]
    points += [{"kill_at_sync": int(number)} for number in rng.integers(1, 9, 6)]
    for number, point in enumerate(points):
        folder = tmp_path / str(number)
        codes = ask(folder, **point)["codes"]
        assert codes == [KILLED] or ("kill_after" in point and codes == [0])
        assert ask(folder)["codes"] == [0]
        expect_same_end(folder, whole[0])


def test_asked_to_stop_it_saves_says_call_me_again_and_goes_on_as_if_nothing_were(ask, whole, tmp_path):
    stopped = ask(tmp_path, term_at=4)  # the next iteration is none that is saved anyway
    assert stopped["codes"] == [CALL_AGAIN] == [75]
    assert "SIGTERM" in stopped["said"][0]["words"] and "start the same command again" in stopped["said"][0]["words"]
    assert content(tmp_path).step == 5
    answer = ask(tmp_path)
    assert answer["codes"] == [0]
    assert timeless(answer["said"][0]["records"]) == timeless(whole[1])
    expect_same_end(tmp_path, whole[0])


def test_two_ranks_train_as_one_does_on_the_same_global_batch(ask, tmp_path):
    """Chunks begin at the same places of the batch, so dropout and noise are the same too; sums in another order."""
    changes = {"batch": 8, "chunk": 2, "iterations": 4}
    one, two = ask(tmp_path / "one", changes=changes), ask(tmp_path / "two", changes=changes, ranks=2)
    assert one["codes"] == [0] and two["codes"] == [0, 0]
    expected, *found = (said["records"] for said in one["said"] + two["said"])
    assert timeless(found[0]) == timeless(found[1])
    for record, other in zip(timeless(expected), timeless(found[0]), strict=True):
        assert other == pytest.approx(record, rel=1e-3, abs=1e-5)
    weights, others = content(tmp_path / "one").tensors, content(tmp_path / "two").tensors
    moved = State.fresh(replace(TRAINING, **changes), CPU).model.state_dict()
    sides = ("image", "network")
    for name in (f"model/{side}_components.directions" for side in sides):
        assert weights[name].any() and torch.equal(others[name], weights[name])
    for name in ("log_tau", *(f"{side}_projection.{layer}.weight" for side in sides for layer in LAYERS)):
        change = weights[f"model/{name}"] - moved[name]
        difference = (others[f"model/{name}"] - weights[f"model/{name}"]).abs()
        assert change.abs().max() > 5e-4
        # Adam makes full steps of gradients that are rounding alone: of a few weights at most
        assert difference.median() < 1e-6 and (difference > 1e-5).double().mean() < 0.02


def test_ranks_that_cannot_share_a_batch_are_told_which_they_could(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="a batch of 6 cannot be shared equally by 4 ranks: choose a batch of 8"):
        train_step(State.fresh(TRAINING, CPU), stores[0], np.arange(6), Ranks("cpu"))


def test_records_go_on_over_a_restart_within_a_stretch(stores, tmp_path):
    """The losses summed so far are part of the state: a mean over four iterations is that of an undisturbed run."""
    rare = {"record_every": 4, "save_every": 1}
    undisturbed = train(stores, tmp_path / "undisturbed", **rare)
    folder = tmp_path / "stopped"
    for record in fit(stores[0], folder, replace(TRAINING, **rare), stores[1], Ranks("cpu")):
        if record["iteration"] == 0:
            continue
        assert record["iteration"] == 4
        (folder / "checkpoints" / "step-00000004.safetensors").unlink()  # back to the middle of the stretch
        break
    assert content(folder).step == 3
    assert timeless(train(stores, folder, **rare)) == timeless(undisturbed)


def test_one_batch_is_learned_until_every_image_finds_its_network(stores, tmp_path):
    """All of the loop: caching, masks, all three losses; without what keeps pairs from being memorised."""
    few = stores[0].select(np.arange(len(stores[0])) < 6)
    config = replace(
        TRAINING,
        model=CALM,
        component_steps=0,
        augmentation=STILL,
        iterations=150,
        learning_rate=3e-3,
        record_every=25,
        validate_every=25,
    )
    records = list(fit(few, tmp_path, config, few, Ranks("cpu")))
    assert records[-1]["validation_r1"] == 1.0
    assert records[-1]["contrastive"] < 0.3 * records[0]["contrastive"]
    assert records[-1]["reconstruction"] < records[0]["reconstruction"]


def test_masked_images_alone_are_judged_by_their_reconstruction(stores, tmp_path):
    """The pre-training without networks, for comparison: nothing of the network encoder moves."""
    objective = ObjectiveConfig(weights=LossWeights(0.0, 1.0, 0.0))
    records = train(stores, tmp_path, objective=objective, component_steps=0)
    config = replace(TRAINING, component_steps=0, objective=objective)
    model, record = trained_model(tmp_path, config)
    assert record["validation_error"] == pytest.approx(reconstruction_error(model, stores[1], config), rel=1e-6)
    assert "contrastive" not in records[-1] and "validation_r1" not in records[-1]
    begun = State.fresh(config, CPU).model
    same = [
        torch.equal(a, b)
        for a, b in zip(model.network_encoder.parameters(), begun.network_encoder.parameters(), strict=True)
    ]
    assert all(same)


@pytest.mark.parametrize(
    "changes", [{"objective": ObjectiveConfig(contrastive="siglip")}, {"within_site": True, "batch": 4}]
)
def test_named_alternatives_train(stores, tmp_path, changes):
    records = train(stores, tmp_path, iterations=2, **changes)
    assert math.isfinite(records[-1]["contrastive"])


def test_the_validation_is_on_other_people_in_one_gallery(whole, stores):
    model, _ = trained_model(whole[0], TRAINING)
    found = validation_scores(model, stores[1], TRAINING)
    with torch.no_grad():
        places = np.arange(len(stores[1]))
        images = model.embed_images(torch.from_numpy(stores[1].volumes(places))[:, None])
        networks = model.embed_networks(torch.from_numpy(stores[1].networks(places)))
    assert found["r1"] == retrieval(images.numpy(), networks.numpy()).r1
    by_rank = validation_scores(model, stores[1], replace(TRAINING, best_by="retrieval"))
    assert by_rank["error"] == -found["reciprocal_rank"] and found["error"] == found["contrastive"]


def test_a_loss_that_is_no_number_names_step_and_subject_and_leaves_the_last_checkpoint(stores, tmp_path):
    config = replace(TRAINING, component_steps=0, save_every=1, augmentation=STILL, model=MODEL)
    sampler = PairSampler(stores[0], config.batch, config.seed)
    drawn = [set(sampler.draw(step).tolist()) for step in range(config.iterations)]
    step = next(n for n in range(1, 8) if drawn[n] - set().union(*drawn[:n]))
    place = min(drawn[step] - set().union(*drawn[:step]))
    volumes = np.array(stores[0].arrays["volumes"])
    volumes[stores[0].places[place], 8, 8, 8] = np.nan
    bad = replace(stores[0], arrays={**stores[0].arrays, "volumes": volumes})
    with pytest.raises(NonFiniteLoss) as caught:
        list(fit(bad, tmp_path, config, None, Ranks("cpu")))
    row = bad.table.iloc[place]
    assert f"step {step}" in str(caught.value) and f"{row['subject']} ({row['site']})" in str(caught.value)
    assert len(caught.value.where) == 1
    kept = content(tmp_path)
    assert kept.step == step
    assert all(value.isfinite().all() for value in kept.tensors.values() if value.is_floating_point())


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    state, checkpoints = State.fresh(TRAINING, CPU), Checkpoints(tmp_path)
    state.iteration = 1
    state.save(checkpoints)
    with torch.no_grad():
        state.model.log_tau.fill_(math.nan)
    state.iteration = 2
    with pytest.raises(NonFiniteLoss, match="log_tau"):
        state.save(checkpoints)
    assert checkpoints.latest().step == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 2e-3}, "learning_rate was 0.001, is 0.002"),
        ({"objective": ObjectiveConfig(over="masked")}, "objective.over was volume, is masked"),
        ({"chunk": 3}, "chunk was 4, is 3"),
        ({"seed": 1}, "seed was 0, is 1"),
    ],
)
def test_other_settings_are_refused_by_name(whole, stores, changes, named):
    with pytest.raises(ValueError, match="other settings") as caught:
        train(stores, whole[0], **changes)
    assert named in str(caught.value) and "empty folder" in str(caught.value)


def test_a_finished_run_is_only_told_again(whole, stores):
    assert train(stores, whole[0]) == whole[1]


def test_pairs_that_do_not_fit_the_model_are_refused_before_anything_is_trained(stores, tmp_path):
    image = replace(CALM.image, size=(32, 16, 16))
    with pytest.raises(ValueError, match=r"expected volumes of \(32, 16, 16\) voxels.*got \(16, 16, 16\) and 8"):
        train(stores, tmp_path, component_steps=0, model=replace(CALM, image=image))
    network = replace(CALM.network, regions=116)
    with pytest.raises(ValueError, match=r"networks of 116 regions.*got \(16, 16, 16\) and 8"):
        train(stores, tmp_path, component_steps=0, model=replace(CALM, network=network))


def test_the_rate_rises_then_falls_along_a_cosine_to_the_least():
    config = PretrainingConfig(iterations=100, warm_up=10)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-6) and rates[9] == pytest.approx(1e-5) == rates[10]
    assert rates[55] == pytest.approx((1e-5 + 1e-6) / 2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:])) and rates[99] < 1.01e-6
    plain = PretrainingConfig()
    assert plain.rate(0) == 1e-5 and plain.rate(plain.iterations) == pytest.approx(1e-6)


def test_biases_norms_and_the_temperature_do_not_decay(stores):
    state = State.fresh(replace(TRAINING, weight_decay=0.5), CPU)
    decaying, free = state.optimiser.param_groups
    assert decaying["weight_decay"] == 0.5 and free["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decaying["params"]) and all(p.ndim <= 1 for p in free["params"])
    assert any(p is state.model.log_tau for p in free["params"])
    everything = sum(p.requires_grad for p in state.model.parameters())
    assert len(decaying["params"]) + len(free["params"]) == everything


def test_settings_without_sense_are_refused():
    for name in ("iterations", "record_every", "save_every", "validate_every", "mask_block", "reconstruct_every"):
        with pytest.raises(ValueError, match=rf"PretrainingConfig.{name}: expected at least 1, got 0"):
            PretrainingConfig(**{name: 0})
    with pytest.raises(ValueError, match="batch of at least 2 pairs, in chunks of at least 1, got 1, None"):
        PretrainingConfig(batch=1)
    with pytest.raises(ValueError, match="got 256, 0"):
        PretrainingConfig(chunk=0)
    with pytest.raises(ValueError, match=r"validate_every: expected a multiple of record_every \(3\), got 4"):
        PretrainingConfig(record_every=3, validate_every=4)
    with pytest.raises(ValueError, match="0 < least_rate <= learning_rate"):
        PretrainingConfig(least_rate=1e-3)
    with pytest.raises(ValueError, match="best_by: expected loss or retrieval, got 'luck'"):
        PretrainingConfig(best_by="luck")


def test_a_training_is_named_by_its_settings_and_its_pairs(stores):
    training, validation = stores
    key = training_key(TRAINING, training)
    assert key == training_key(replace(TRAINING), training)
    others = training_key(replace(TRAINING, seed=1), training), training_key(TRAINING, validation)
    assert len({key, *others, training_key(TRAINING, training.shuffled(0))}) == 4


def test_the_paper_preset_holds_what_the_study_tells():
    from cinp_lib.presets import preset

    chosen = preset("paper")
    training = chosen.training
    assert (training.learning_rate, training.least_rate, training.weight_decay, training.batch) == (
        1e-5,
        1e-6,
        1e-5,
        256,
    )
    assert vars(training.objective.weights) == {"contrastive": 1.0, "reconstruction": 1.0, "matching": 1.0}
    assert training.mask_share == 0.3 and training.model.embedding == 768
    assert training.component_steps == training.model.components == 0 and not training.model.voxelwise  # ours
    assert chosen.pairs.size == (96, 96, 96) == training.model.image.size and chosen.pairs.spacing_mm == 2.0
    for name in ("smoke", "demo", "paper"):
        assert preset(name).pairs.size == preset(name).training.model.image.size
    with pytest.raises(KeyError, match="preset: expected one of smoke, demo, paper, got 'fast'"):
        preset("fast")
