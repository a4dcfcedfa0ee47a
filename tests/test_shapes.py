"""Axis words are annotations only; under a checker the same word means the same length."""

import subprocess
import sys

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from study_lib import intensity, volume


def test_the_annotations_hold_when_a_checker_looks():
    checked = jaxtyped(typechecker=beartype)(volume._blurred)
    values = np.random.default_rng(0).normal(size=(7, 6, 5)).astype(np.float32)
    assert checked(values, np.diag([2.0, 1.0, 1.0, 1.0])).shape == (7, 6, 5)


def test_a_mask_of_another_shape_than_its_volume_is_caught():
    checked = jaxtyped(typechecker=beartype)(intensity._brain_values)
    with pytest.raises(TypeCheckError):
        checked(np.ones((4, 4, 4), np.float32), np.ones((4, 4, 5), bool), "s1")


def test_the_libraries_import_without_a_checker():
    code = "import sys, study_lib.volume, study_lib.intensity; print('beartype' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
