"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public tables and images that are not part of the project; tests on them skip where they are absent."""
    folder = Path(os.environ.get("BRAIN_MRI_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real public data not at {folder}: set BRAIN_MRI_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="module")
def browser():
    """A real browser; tests on it skip where there is none."""
    from browser import Browser, find_chromium

    executable = find_chromium()
    if executable is None:
        pytest.skip("no browser: install chromium, or name one in CHROMIUM")
    opened = Browser(executable)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """The manifest of a small phantom cohort, made once for all test processes; read it, do not change it."""
    from filelock import FileLock

    from study_lib.phantom.cohort import ensure_cohort
    from study_lib.phantom.spec import CohortSpec

    spec = CohortSpec(per_site=6, travelling=2, pretraining=10, per_task=8, n_volumes=100)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "phantom.lock"):
        return ensure_cohort(shared / "phantom", spec, workers=2, progress=False)
