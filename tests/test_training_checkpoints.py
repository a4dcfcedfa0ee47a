"""Checkpoints are whole or not there: exact, checked bit by bit, and safe from kills and full disks."""

import errno
import math
import os
import resource
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from study_lib.training.checkpoints import CheckpointError, Checkpoints
from study_lib.training.tensor_file import DamagedFile, read_tensor_file, write_tensor_file

# For every line on its input: a process that goes on writing checkpoints until somebody kills it.
WRITERS = """
import os, sys, torch
from study_lib.training.checkpoints import Checkpoints
torch.set_num_threads(1)

def write(folder):
    checkpoints = Checkpoints(folder)
    newest = checkpoints.latest()
    step = newest.step if newest else 0
    print(os.getpid(), flush=True)
    while True:
        step += 1
        checkpoints.save(step, {"a": torch.full((500_000,), float(step)), "b": torch.full((3,), step)}, {"step": step})
        print(step, flush=True)

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        write(sys.argv[1])
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


def odd_tensors():
    torch.manual_seed(0)
    base = torch.randn(7, 5)
    return {
        "double": torch.randn(3, dtype=torch.float64),
        "weights/with.dots and é": torch.randn(5, 3, 7),
        "half": torch.randn(9).half(),
        "brain": torch.randn(11).bfloat16(),
        "long": torch.tensor([-(2**60), 2**60]),
        "int": torch.arange(-2, 3, dtype=torch.int32),
        "short": torch.arange(-2, 3, dtype=torch.int16),
        "signed": torch.arange(-2, 3, dtype=torch.int8),
        "bytes": torch.arange(250, 256).byte(),
        "flags": torch.tensor([True, False, True]),
        "step": torch.tensor(3.5),
        "none": torch.zeros(0, 3),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "shared": base,
        "expanded": torch.tensor([1.5]).expand(4),
        "special": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45]),
        "trained": torch.nn.Parameter(torch.randn(2, 2)),
    }


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)


def flip(path, bit):
    """One bit of a file, counted from its end where negative."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def three(folder, **options):
    checkpoints = Checkpoints(folder, **options)
    for step in (10, 20, 30):
        checkpoints.save(step, {"a": torch.full((4,), step)}, {"step": step})
    return checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_type_shape_and_layout_comes_back_bit_by_bit(tmp_path):
    tensors = odd_tensors()
    path = Checkpoints(tmp_path).save(7, tensors, {})
    back = Checkpoints(tmp_path).latest()
    assert (back.step, back.path, back.state) == (7, path, {})
    assert set(back.tensors) == set(tensors)
    assert [name for name in tensors if not same(tensors[name], back.tensors[name])] == []


def test_tensors_that_come_back_share_nothing_with_the_file_or_each_other(tmp_path):
    base = torch.arange(6.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": base, "b": base[1:3]}, {})
    back = checkpoints.latest().tensors
    back["a"].zero_()
    assert back["b"].tolist() == [1, 2]
    assert checkpoints.latest().tensors["a"].tolist() == base.tolist()


def test_the_file_is_plain_safetensors(tmp_path):
    tensors = odd_tensors()
    back = load_file(Checkpoints(tmp_path).save(7, tensors, {"any": 1}))
    assert [name for name in tensors if not same(tensors[name], back[name])] == []


def test_equal_content_gives_equal_bytes_in_whatever_order_it_was_given(tmp_path):
    tensors, state = odd_tensors(), {"b": 1, "a": [1.5, None]}
    one = Checkpoints(tmp_path / "one").save(7, tensors, state)
    other = Checkpoints(tmp_path / "other").save(7, dict(reversed(tensors.items())), dict(reversed(state.items())))
    assert one.read_bytes() == other.read_bytes()


def test_state_comes_back_exactly(tmp_path):
    state = {
        "loss": 0.1 + 0.2,
        "best": math.inf,
        "n": 2**80,
        "text": "é\n\"'",
        "list": [1, [None, True]],
        "deep": {"a": {}},
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {}, state)
    assert checkpoints.latest().state == state
    checkpoints.save(2, {}, {"loss": math.nan})
    assert math.isnan(checkpoints.latest().state["loss"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {1: 2}}, r"state\['a'\]: expected text as keys; got \[1\]"),
        ({"a": [0, torch.zeros(1)]}, r"state\['a'\]\[1\]: expected plain JSON; got Tensor"),
        ({"a": {1, 2}}, r"state\['a'\]: expected plain JSON; got set"),
    ],
)
def test_state_that_json_would_change_is_refused_with_its_place(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        Checkpoints(tmp_path).save(1, {}, state)
    assert names(tmp_path) == []


def test_tensors_without_a_place_in_the_format_are_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"tensor 'z': .* got torch.complex64"):
        Checkpoints(tmp_path).save(1, {"z": torch.zeros(2, dtype=torch.complex64)}, {})
    with pytest.raises(TypeError, match=r"tensor 's': .* torch.sparse_coo"):
        Checkpoints(tmp_path).save(1, {"s": torch.eye(3).to_sparse()}, {})
    assert names(tmp_path) == []


def test_every_flipped_bit_and_every_missing_end_is_found(tmp_path):
    path, spoilt = tmp_path / "sound.safetensors", tmp_path / "spoilt.safetensors"
    write_tensor_file(path, {"a": torch.tensor([1.5, -2]), "b": torch.tensor(3)}, {"state": '{"n": 1}', "step": "4"})
    sound = path.read_bytes()
    unseen = []
    for bit in range(8 * len(sound)):
        spoilt.write_bytes(sound)
        flip(spoilt, bit)
        unseen += [bit] if reads(spoilt) else []
    for end in range(len(sound)):
        spoilt.write_bytes(sound[:end])
        unseen += [f"end {end}"] if reads(spoilt) else []
    spoilt.write_bytes(sound + b"\0")
    assert not reads(spoilt)
    assert unseen == []
    assert reads(path)


def reads(path):
    try:
        read_tensor_file(path)
    except DamagedFile:
        return False
    return True


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign", "renamed", "other_format"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    checkpoints = three(tmp_path)
    newest = tmp_path / "step-00000030.safetensors"
    if damage == "flip":
        flip(newest, -40)
    elif damage == "truncate":
        os.truncate(newest, newest.stat().st_size - 1)
    elif damage == "empty":
        newest.write_bytes(b"")
    elif damage == "foreign":
        save_file({"a": torch.zeros(4)}, newest)
    elif damage == "renamed":
        newest.write_bytes((tmp_path / "step-00000020.safetensors").read_bytes())
    else:
        write_tensor_file(newest, {}, {"format": "2", "step": "30", "state": "{}"})
    with pytest.warns(RuntimeWarning, match="step-00000030") as caught:
        back = checkpoints.latest()
    assert len(caught) == 1
    assert (back.step, back.state, back.tensors["a"].tolist()) == (20, {"step": 20}, [20] * 4)


def test_a_damaged_checkpoint_does_not_push_out_a_sound_one(tmp_path):
    three(tmp_path)
    flip(tmp_path / "step-00000030.safetensors", -40)
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(RuntimeWarning, match="step-00000030"):
        assert checkpoints.latest().step == 20
    checkpoints.save(25, {}, {})
    assert names(tmp_path) == ["step-00000020.safetensors", "step-00000025.safetensors"]


def test_where_nothing_is_intact_training_starts_anew_and_is_told(tmp_path):
    checkpoints = three(tmp_path, keep=1)
    flip(tmp_path / "step-00000030.safetensors", -40)
    with pytest.warns(RuntimeWarning) as caught:
        assert checkpoints.latest() is None
    assert "starts from the beginning" in str(caught[-1].message)
    checkpoints.save(10, {}, {})
    assert names(tmp_path) == ["step-00000010.safetensors"]


def test_an_empty_or_absent_folder_has_no_latest_and_stays_as_it_is(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(tmp_path).latest() is None
        assert Checkpoints(tmp_path / "absent").latest() is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_are_kept_and_named_ones_stay(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep)
    checkpoints.save_as("best", 1, {"a": torch.ones(1)}, {})
    for step in range(0, 1200, 300):
        checkpoints.save(step, {}, {})
    kept = [f"step-{step:08d}.safetensors" for step in range(0, 1200, 300)][-keep:]
    assert names(tmp_path) == ["best.safetensors", *kept]
    checkpoints.save_as("best", 900, {"a": torch.zeros(1)}, {"why": "lower"})
    best = checkpoints.load("best")
    assert (best.step, best.tensors["a"].item(), best.state) == (900, 0, {"why": "lower"})


def test_the_same_step_can_be_saved_again(tmp_path):
    checkpoints = three(tmp_path)
    checkpoints.save(30, {"a": torch.zeros(1)}, {"again": True})
    assert checkpoints.latest().state == {"again": True}


def test_a_folder_with_later_steps_is_not_written_into(tmp_path):
    three(tmp_path)
    with pytest.raises(ValueError, match=r"step-00000030.*later than step 15.*latest\(\)"):
        Checkpoints(tmp_path).save(15, {}, {})
    assert names(tmp_path) == ["step-00000020.safetensors", "step-00000030.safetensors"]


def test_a_named_checkpoint_that_is_absent_or_damaged_is_an_error_that_says_so(tmp_path):
    checkpoints = three(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors; the folder holds .*step-00000020"):
        checkpoints.load("best")
    path = checkpoints.save_as("best", 30, {"a": torch.zeros(9)}, {})
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(CheckpointError, match=r"best\.safetensors"):
        checkpoints.load("best")


@pytest.mark.parametrize("name", ["", "Best", "step-00000001", "../best", ".hidden", "a/b"])
def test_names_that_would_mix_with_other_files_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="name: expected"):
        Checkpoints(tmp_path).save_as(name, 1, {}, {})


@pytest.fixture
def writers(tmp_path):
    """One process that has imported torch, and starts writers on request."""
    call = [sys.executable, "-c", WRITERS, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(call, **pipes, start_new_session=True) as process:
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_a_kill_at_any_moment_leaves_an_intact_checkpoint(tmp_path, writers):
    """Each writer goes on from what the one before left; every other one is killed within a write."""
    rng = np.random.default_rng(4)
    reached = halves = 0
    for turn in range(12):
        claimed = max(reached, write_until_killed(writers, tmp_path, rng, within=turn % 2 == 1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            back = Checkpoints(tmp_path).latest()
        assert back is None or set(back.tensors["a"].tolist()) == {back.step} == {back.state["step"]}
        reached = back.step if back else 0
        assert claimed <= reached <= claimed + 1  # the last may not have been said
        halves += bool(halves_in(tmp_path))
    assert reached >= 6
    assert halves >= 2
    Checkpoints(tmp_path).save(reached + 1, {}, {})
    assert not halves_in(tmp_path)


def write_until_killed(writers, folder, rng, within):
    """The last step that a new writer said it had saved, or 0, when it was killed at a random moment."""
    print(file=writers.stdin, flush=True)
    writer = int(writers.stdout.readline())
    said = [0]
    if within:
        size = rng.integers(2_000_000)
        deadline = time.monotonic() + 120
        while max(map(size_of, folder.glob(f".partial-{writer}-*")), default=0) < size:
            os.kill(writer, 0)  # raises where it has ended by itself
            assert time.monotonic() < deadline, "no write was seen at work"
    else:
        said.append(int(writers.stdout.readline()))
        time.sleep(rng.uniform(0, 0.03))
    os.kill(writer, signal.SIGKILL)
    while (line := writers.stdout.readline()) != "killed\n":
        said.append(int(line))
    return said[-1]


def halves_in(folder):
    return list(folder.glob(".partial-*"))


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:  # renamed meanwhile
        return 0


def expect_clear_failure(folder, code):
    """Step 1 has room, step 2 has not."""
    checkpoints = Checkpoints(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.save(2, {"a": torch.zeros(1_000_000)}, {})
    assert caught.value.errno == code
    message = str(caught.value)
    for words in (str(folder / "step-00000002.safetensors"), "needs 3.8 MiB", "MiB are free", "Free space"):
        assert words in message
    assert "Kept from before: step-00000001.safetensors" in message
    assert names(folder) == ["step-00000001.safetensors"]
    assert checkpoints.latest().tensors["a"].tolist() == [1, 2]
    checkpoints.save(2, {"a": torch.zeros(10)}, {})  # smaller: there is room again


def test_a_file_size_limit_is_told_and_leaves_the_last_checkpoint(tmp_path):
    Checkpoints(tmp_path).save(1, {"a": torch.tensor([1, 2])}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        expect_clear_failure(tmp_path, errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be made where this user may mount one")
    try:
        Checkpoints(disk).save(1, {"a": torch.tensor([1, 2])}, {})
        expect_clear_failure(disk, errno.ENOSPC)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Kept from before: nothing"):
        Checkpoints(tmp_path / "file" / "folder").save(1, {"a": torch.zeros(3)}, {})


def test_only_what_dead_writers_left_is_removed(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    born = psutil.Process(child.pid).create_time()
    living = tmp_path / f".partial-{child.pid}-step-00000001.safetensors"
    given_again = tmp_path / f".partial-{child.pid}-step-00000002.safetensors"
    dead = tmp_path / ".partial-4194305-best.safetensors"  # above the largest process number
    own = tmp_path / f".partial-{os.getpid()}-step-00000003.safetensors"
    foreign = tmp_path / ".partial-4194305-notes.txt"
    for path in (living, given_again, dead, own, foreign):
        path.touch()
    os.utime(given_again, (born - 60, born - 60))
    try:
        Checkpoints(tmp_path).save(1, {}, {})
    finally:
        child.kill()
        child.wait()
    assert names(tmp_path) == sorted([living.name, foreign.name, "step-00000001.safetensors"])


def test_loading_runs_no_code_and_reads_no_pickle(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "step-00000001.safetensors")
    with pytest.warns(RuntimeWarning) as caught:
        assert Checkpoints(tmp_path).latest() is None
    assert "step-00000001" in str(caught[0].message)


def test_what_was_read_is_in_memory_and_no_map_of_the_file(tmp_path):
    """A map of the file that is read later would fail where another machine removes the file."""
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, {"a": torch.arange(200_000)}, {})
    back = checkpoints.latest()
    path.unlink()
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        assert str(path) not in maps.read()
    assert back.tensors["a"].sum().item() == 200_000 * 199_999 // 2
