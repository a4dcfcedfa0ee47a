"""A training that a notebook begins goes on in several processes, and the notebook finds it finished."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_gan
import small_pairs
from resumed_runs import timeless
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from waiting import wait_for

from gan_lib.train import fit
from study_lib.training import Checkpoints, Ranks, fit_on_cards
from study_lib.workflow.subprocesses import descendants


def test_one_card_or_none_leaves_the_training_to_the_caller(monkeypatch):
    for named in ("", "3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert fit_on_cards(None) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert fit_on_cards(None, device="cpu") == 1


def test_two_processes_train_to_the_end_and_the_own_fit_yields_what_they_recorded(tmp_path, capfd):
    training, validation = small_gan.write_stores(tmp_path)
    config = small_gan.training_for(training, batch=6, iterations=4)
    arguments = training, tmp_path / "together", config, validation
    assert fit_on_cards(fit, *arguments, device="cpu", cards=2) == 2
    assert "training on 2 cards" in capfd.readouterr().out
    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "together" / "checkpoints").iterdir()}
    found = list(fit(*arguments, Ranks("cpu")))
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints
    alone = list(fit(training, tmp_path / "alone", config, validation, Ranks("cpu")))
    for record, other in zip(timeless(found), timeless(alone), strict=True):
        assert record == pytest.approx(other, rel=1e-4)


STOPPABLE = """
import sys
import small_gan
from gan_lib.slices import SliceStore
from gan_lib.train import fit
from study_lib.training import fit_on_cards

if __name__ == "__main__":
    training, validation = (SliceStore.open(f"{sys.argv[1]}/{name}") for name in ("training", "validation"))
    config = small_gan.training_for(training, batch=6, iterations=60, save_every=5)
    fit_on_cards(fit, training, sys.argv[2], config, validation, device="cpu", cards=2)
"""


def test_a_wish_to_stop_reaches_every_process_which_saves_and_the_next_call_goes_on(tmp_path):
    training, validation = small_gan.write_stores(tmp_path)
    script, folder = tmp_path / "stoppable.py", tmp_path / "together"
    script.write_text(STOPPABLE)
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    running = subprocess.Popen([sys.executable, script, tmp_path, folder], env=os.environ | paths)
    wait_for(lambda: list(folder.glob("checkpoints/step-*")), 240, "the first checkpoint")
    for process in (*descendants(running.pid), running):  # as `study_lib.workflow.slurm.TimeLimit` does
        process.send_signal(signal.SIGTERM)
    assert running.wait(120) != 0
    stopped_at = Checkpoints(folder / "checkpoints").latest().step
    assert 0 < stopped_at < 60
    config = small_gan.training_for(training, batch=6, iterations=60, save_every=5)
    records = list(fit(training, folder, config, validation, Ranks("cpu")))
    assert records[-1]["iteration"] == 60


def test_what_fails_in_a_process_fails_for_the_caller(tmp_path):
    training, validation = small_gan.write_stores(tmp_path)
    config = small_gan.training_for(training, batch=5, iterations=4)
    with pytest.raises(ChildFailedError):
        fit_on_cards(fit, training, tmp_path / "odd", config, validation, device="cpu", cards=2)


def test_stores_go_to_another_process_without_what_lies_on_disk(tmp_path):
    slices, _ = small_gan.write_stores(tmp_path)
    pairs = small_pairs.write_store(tmp_path, small_pairs.people())
    for store in (slices, pairs.select(np.arange(len(pairs)) > 1)):
        sent = pickle.dumps(store)
        again = pickle.loads(sent)
        assert len(sent) < sum(array.nbytes for array in store.arrays.values())
        assert len(again) == len(store) and again.table.equals(store.table)
        assert all(np.array_equal(again.arrays[name], array) for name, array in store.arrays.items())
