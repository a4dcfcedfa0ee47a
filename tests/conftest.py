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
