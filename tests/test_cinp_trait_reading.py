"""Traits are read where features hold them, and not where they do not."""

import numpy as np
import pandas as pd
import pytest

from cinp_lib.tasks import tasks_of
from cinp_lib.trait_reading import moved_traits, readable_traits
from study_lib.manifest import load_manifest
from study_lib.phantom.truth import Truth


def test_traits_are_read_as_far_as_features_hold_them():
    rng = np.random.default_rng(0)
    traits = pd.DataFrame(rng.normal(size=(200, 3)))
    mixed = traits.to_numpy() @ rng.normal(size=(3, 40))
    assert readable_traits(mixed, traits) > 0.99
    assert 0.5 < readable_traits(mixed + 4 * rng.normal(size=mixed.shape), traits) < 0.95
    assert abs(readable_traits(rng.normal(size=(200, 400)), traits)) < 0.2
    with pytest.raises(ValueError, match="expected features of 200 people, got 199"):
        readable_traits(mixed[1:], traits)


def test_moved_traits_are_those_of_the_people_that_diagnoses_shift(phantom):
    truth = Truth.beside(phantom)
    task = tasks_of(load_manifest(phantom, check_files=False).table)["srpbs"]
    traits = moved_traits(task, truth)
    assert traits.index.tolist() == task.table["subject"].tolist() and traits.shape[1] == 11
    assert all(len(shift) == 11 for shift in truth.effects()["anatomy_shift"].values())
