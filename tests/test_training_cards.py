"""A training that a notebook begins goes on in several processes, and the notebook finds it finished."""

import pickle

import numpy as np
import pytest
import small_gan
import small_pairs
from resumed_runs import timeless
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from gan_lib.train import fit
from study_lib.training import Ranks, fit_on_cards


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
