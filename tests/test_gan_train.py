"""The training loop: stopped anywhere and called again, it ends in the same weights; several ranks train as one."""

import errno
import math
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from resumed_runs import alone, content, expect_same_end, served, timeless, undisturbed
from small_gan import NETWORKS, TRAINING, training_for, write_stores

from gan_lib.losses import LossWeights
from gan_lib.slices import SliceSampler
from gan_lib.train import fit, train_step, trained_networks, training_key
from gan_lib.training_state import State, TrainingConfig
from gan_lib.validation import validation_error
from study_lib.training import CALL_AGAIN, CheckpointError, Checkpoints, NonFiniteLoss, Ranks

KILLED = -signal.SIGKILL
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("slices"))


@pytest.fixture(autouse=True)
def one_rank_and_thread(monkeypatch):
    with alone(monkeypatch):
        yield


@pytest.fixture(scope="module")
def ask(repository, tmp_path_factory):
    """Training in processes of their own."""
    with served(repository / "tests" / "gan_runs.py", tmp_path_factory.mktemp("served")) as request:
        yield request


@pytest.fixture(scope="module")
def whole(ask, tmp_path_factory):
    return undisturbed(ask, tmp_path_factory.mktemp("whole"))


def train(stores, folder, **changes):
    """In this process, to the end."""
    return list(fit(stores[0], folder, training_for(stores[0], **changes), stores[1], Ranks("cpu")))


def train_until(iteration, stores, folder, **changes):
    """In this process, left without a word after the record of an iteration."""
    records = []
    running = fit(stores[0], folder, training_for(stores[0], **changes), stores[1], Ranks("cpu"))
    for record in running:
        records.append(record)
        if record["iteration"] == iteration:
            running.close()
    return records


def test_a_run_yields_a_record_for_each_stretch_and_leaves_best_and_last_state(whole, stores):
    folder, records, _ = whole
    assert [record["iteration"] for record in records] == list(range(1, 9))
    names = ("adversarial", "cycle", "style", "temporal", "generator")
    for record, kind in zip(records, ("latent", "reference") * 4, strict=True):
        assert {f"{name}_{kind}" for name in names} | {"discriminator", "images_per_second"} <= set(record)
    errors = {r["iteration"]: r["validation_error"] for r in records if "validation_error" in r}
    assert set(errors) == {4, 8}
    assert content(folder).step == 8
    best = content(folder, "best")
    assert errors[best.step] == min(errors.values()) == best.state["best"]
    assert all(math.isfinite(value) for record in records for value in record.values())


@pytest.mark.parametrize("best", [True, False])
def test_the_networks_that_training_gives_are_the_averages_of_the_best_or_last_state(whole, stores, best):
    config = training_for(stores[0])
    networks, record = trained_networks(whole[0], config, best)
    step = content(whole[0], "best").step if best else 8
    assert record["iteration"] == step
    assert record["validation_error"] == next(r for r in whole[1] if r["iteration"] == step)["validation_error"]
    error = validation_error(networks, *stores)
    assert error.total == pytest.approx(record["validation_error"], rel=1e-6)


def test_networks_of_a_folder_without_training_are_refused(tmp_path, stores):
    with pytest.raises(FileNotFoundError, match="train first"):
        trained_networks(tmp_path, training_for(stores[0]))


def test_a_run_in_another_process_is_bit_identical(whole, stores, tmp_path):
    records = train(stores, tmp_path)
    assert timeless(records) == timeless(whole[1])
    expect_same_end(tmp_path, whole[0])


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
    assert not list((tmp_path / "checkpoints").glob(".partial-*"))


@pytest.mark.slow
def test_twenty_four_random_kill_points_change_no_bit(ask, whole, tmp_path):
    """Each once on a run of its own; eight of them at a random call that makes a checkpoint safe."""
    rng = np.random.default_rng(1)
    points = [{"kill_after": share * whole[2]} for share in rng.uniform(0, 1, 16)]
    points += [{"kill_at_sync": int(number)} for number in rng.integers(1, 9, 8)]
    halves = 0
    for number, point in enumerate(points):
        folder = tmp_path / str(number)
        codes = ask(folder, **point)["codes"]
        assert codes == [KILLED] or ("kill_after" in point and codes == [0])
        halves += any((folder / "checkpoints").glob(".partial-*"))
        assert ask(folder)["codes"] == [0]
        expect_same_end(folder, whole[0])
    assert halves > 0


def test_asked_to_stop_it_saves_says_call_me_again_and_goes_on_as_if_nothing_were(ask, whole, tmp_path):
    stopped = ask(tmp_path, term_at=4)  # the next iteration is none that is saved anyway
    assert stopped["codes"] == [CALL_AGAIN] == [75]
    assert "SIGTERM" in stopped["said"][0]["words"] and "start the same command again" in stopped["said"][0]["words"]
    assert content(tmp_path).step == 5
    answer = ask(tmp_path)
    assert answer["codes"] == [0]
    assert timeless(answer["said"][0]["records"]) == timeless(whole[1])
    expect_same_end(tmp_path, whole[0])


def test_records_go_on_over_a_restart_within_a_stretch(stores, tmp_path):
    """The losses summed so far are part of the state: a mean over four iterations is that of an undisturbed run."""
    rare = {"record_every": 4, "save_every": 1}
    undisturbed = train(stores, tmp_path / "undisturbed", **rare)
    folder = tmp_path / "stopped"
    for record in fit(stores[0], folder, training_for(stores[0], **rare), stores[1], Ranks("cpu")):
        assert record["iteration"] == 4
        (folder / "checkpoints" / "step-00000004.safetensors").unlink()  # back to the middle of the stretch
        break
    assert content(folder).step == 3
    assert timeless(train(stores, folder, **rare)) == timeless(undisturbed)


def test_the_diversification_weight_goes_on_falling_after_a_restart(stores, tmp_path):
    """Read off the losses themselves, since StarGAN v2 forgets it on resume."""
    train_until(3, stores, tmp_path)
    records = train(stores, tmp_path)
    for iteration, (record, kind) in enumerate(zip(records[:6], ("latent", "reference") * 3, strict=True)):
        parts = {name: record[f"{name}_{kind}"] for name in ("adversarial", "cycle", "style", "temporal")}
        rest = sum(parts.values()) - 0.5 * parts["temporal"]
        weight = (rest - record[f"generator_{kind}"]) / record[f"diversification_{kind}"]
        assert weight == pytest.approx(1 - iteration / 6, abs=1e-3)
    assert not {"diversification_latent", "diversification_reference"} & {*records[6], *records[7]}


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(whole, stores, tmp_path):
    train_until(7, stores, tmp_path)
    newest = tmp_path / "checkpoints" / "step-00000006.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(RuntimeWarning, match=r"damaged checkpoint.*step-00000006"):
        records = train(stores, tmp_path)
    assert timeless(records) == timeless(whole[1])
    expect_same_end(tmp_path, whole[0])


def test_a_full_disk_stops_with_a_clear_error_and_leaves_the_last_checkpoint(whole, stores, tmp_path):
    running = fit(stores[0], tmp_path, training_for(stores[0]), stores[1], Ranks("cpu"))
    while next(running)["iteration"] < 3:
        pass
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CheckpointError, match="cannot write checkpoint") as caught:
            list(running)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert "Kept from before: step-00000003" in str(caught.value) and "Free space" in str(caught.value)
    after = content(tmp_path)
    assert after.step == 3 and all(torch.equal(after.tensors[name], before.tensors[name]) for name in before.tensors)
    train(stores, tmp_path)
    expect_same_end(tmp_path, whole[0])


def poisoned(store, config, after):
    """The store with one slice that is no number, first drawn some iterations on; the iteration, and who it is."""
    sampler = SliceSampler(store, config.batch, config.seed, config.draw)
    drawn = [{*zip(p.source, p.slices, strict=True)} for p in map(sampler.picks, range(config.iterations))]
    looked_at = [set(d) for d in drawn]
    for step, picks in enumerate(map(sampler.picks, range(config.iterations))):
        looked_at[step] |= {*zip(picks.source, picks.neighbours, strict=True)}
        looked_at[step] |= {*zip(picks.reference.ravel(), picks.reference_slices.ravel(), strict=True)}
    step = next(n for n in range(after, config.iterations) if drawn[n] - set().union(*looked_at[:n]))
    volume, number = min(drawn[step] - set().union(*looked_at[:step]))
    images = np.array(store.arrays["images"])
    images[volume, number][images[volume, number] > 0] = np.nan
    row = store.table.iloc[int(volume)]
    return replace(store, arrays={**store.arrays, "images": images}), step, row


def test_a_loss_that_is_no_number_names_step_subject_and_sites_and_leaves_the_last_checkpoint(whole, stores, tmp_path):
    config = training_for(stores[0], save_every=1)
    bad, step, row = poisoned(stores[0], config, after=2)
    with pytest.raises(NonFiniteLoss) as caught:
        list(fit(bad, tmp_path, config, None, Ranks("cpu")))
    message = str(caught.value)
    assert f"step {step}" in message and row["subject"] in message and f"{row['site']} to " in message
    kept = content(tmp_path)
    assert kept.step == step
    assert all(value.isfinite().all() for value in kept.tensors.values() if value.is_floating_point())
    list(fit(stores[0], tmp_path, config, None, Ranks("cpu")))  # the image mended
    final, undisturbed = content(tmp_path).tensors, content(whole[0]).tensors
    assert [name for name in undisturbed if not torch.equal(final[name], undisturbed[name])] == []


def test_weights_that_are_no_numbers_are_never_saved(stores, tmp_path):
    """A loss can be finite where its gradient is not: then the next loss tells, but the checkpoint comes first."""
    state, checkpoints = State.fresh(training_for(stores[0]), CPU), Checkpoints(tmp_path)
    state.iteration = 1
    state.save(checkpoints)
    with torch.no_grad():
        state.networks.generator.head.bias.fill_(math.nan)
    state.iteration = 2
    with pytest.raises(NonFiniteLoss, match=r"generator\.head\.bias"):
        state.save(checkpoints)
    assert checkpoints.latest().step == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 2e-3}, "learning_rate was 0.001, is 0.002"),
        ({"step": replace(TRAINING.step, keep_background=True)}, "step.keep_background was False, is True"),
        ({"step": replace(TRAINING.step, weights=LossWeights(cycle=3.0))}, "step.weights.cycle was 1.0, is 3.0"),
        ({"iterations": 9}, "iterations was 8, is 9"),
        ({"seed": 1}, "seed was 0, is 1"),
    ],
)
def test_other_settings_are_refused_by_name(whole, stores, changes, named):
    with pytest.raises(ValueError, match="other settings") as caught:
        train(stores, whole[0], **changes)
    assert named in str(caught.value) and "empty folder" in str(caught.value)


def test_saving_more_often_is_no_other_training(stores, tmp_path, whole):
    train_until(4, stores, tmp_path)
    train(stores, tmp_path, save_every=1)
    expect_same_end(tmp_path, whole[0])


def test_a_finished_run_is_only_told_again(whole, stores):
    assert train(stores, whole[0]) == whole[1]


def test_the_average_begins_at_the_weights_as_initialised_and_forgets_them_soon(stores):
    """In StarGAN v2 it begins at other ones, and short runs look broken."""
    state = State.fresh(training_for(stores[0]), CPU)
    pairs = [*zip(state.average.module.parameters(), state.networks.parameters(), strict=True)]
    assert all(torch.equal(one, other) for one, other in pairs)
    begun = [one.clone() for one, _ in pairs]
    train_step(state, SliceSampler(stores[0], 4, 0).draw(0), Ranks("cpu"))
    for start, (average, weight) in zip(begun, pairs, strict=True):
        torch.testing.assert_close(average, 0.1 * start + 0.9 * weight, rtol=1e-5, atol=1e-7)


def test_networks_begin_alike_for_a_seed_whatever_was_drawn_before(stores):
    torch.manual_seed(5)
    one, state = State.fresh(training_for(stores[0]), CPU), torch.get_rng_state()
    torch.rand(3)
    two = State.fresh(training_for(stores[0]), CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.networks.parameters(), two.networks.parameters(), strict=True))
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)
    other = State.fresh(training_for(stores[0], seed=1), CPU)
    assert not torch.equal(other.networks.generator.head.weight, one.networks.generator.head.weight)


def test_rates_fall_linearly_to_0_from_where_they_are_told_to():
    config = TrainingConfig(iterations=10, decay_from=0.6)
    assert [config.rate_share(k) for k in (0, 6, 8, 9)] == pytest.approx([1, 1, 0.5, 0.25])
    assert [TrainingConfig(iterations=10).rate_share(k) for k in (0, 9)] == [1, 1]
    state = State.fresh(replace(config, networks=NETWORKS), CPU)
    state.iteration = 8
    state.set_rates()
    rates = {name: optimiser.param_groups[0]["lr"] for name, optimiser in vars(state.optimisers).items()}
    assert rates == pytest.approx({"generator": 5e-5, "mapping": 5e-7, "encoder": 5e-5, "discriminator": 5e-5})


def test_two_ranks_train_as_one_does_on_the_same_global_batch(ask, tmp_path):
    """Losses to 1e-4 of their size, weights to 1e-5: float32 sums in another order.

    But for the biases before an instance norm, which takes them out again: their gradients are rounding alone, and
    Adam makes steps of them.
    """
    changes = {"batch": 6, "iterations": 4}
    one, two = ask(tmp_path / "one", changes=changes), ask(tmp_path / "two", changes=changes, ranks=2)
    assert one["codes"] == [0] and two["codes"] == [0, 0]
    expected, *found = (said["records"] for said in one["said"] + two["said"])
    assert timeless(found[0]) == timeless(found[1])
    for record, other in zip(timeless(expected), timeless(found[0]), strict=True):
        assert other == pytest.approx(record, rel=1e-4)
    weights, others = content(tmp_path / "one").tensors, content(tmp_path / "two").tensors
    for name, value in weights.items():
        idle = "/generator." in name and name.endswith(("stem.bias", "first.bias", "second.bias"))
        if name.startswith("networks/") and not idle:
            torch.testing.assert_close(others[name], value, rtol=0, atol=1e-5)


def test_settings_without_sense_are_refused():
    for name in ("iterations", "batch", "record_every", "save_every", "validate_every"):
        with pytest.raises(ValueError, match=rf"TrainingConfig.{name}: expected at least 1, got 0"):
            TrainingConfig(**{name: 0})
    with pytest.raises(ValueError, match="decay_from: expected a share from 0 to 1, got 2"):
        TrainingConfig(decay_from=2)
    with pytest.raises(ValueError, match=r"validate_every: expected a multiple of record_every \(3\), got 4"):
        TrainingConfig(record_every=3, validate_every=4)


def test_a_training_is_named_by_its_settings_and_its_slices(stores):
    training, validation = stores
    config = training_for(training)
    key = training_key(config, training)
    assert key == training_key(training_for(training), training)
    assert len({key, training_key(training_for(training, seed=1), training), training_key(config, validation)}) == 3
