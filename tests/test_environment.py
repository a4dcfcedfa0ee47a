"""pyproject.toml, requirements.lock and environment.yml say the same, and what is installed is what they say."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from study_lib.provenance import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    Requirement(line)
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.lstrip().startswith("#")
]
DECLARED = [
    Requirement(text)
    for text in PROJECT["dependencies"]
    + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
]
PINS = {canonicalize_name(pin.name): pin for pin in LOCK if pin.marker is None or pin.marker.evaluate()}


def version_of(pin):
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def test_every_line_of_the_lock_is_one_exact_version():
    assert len(LOCK) > 100
    assert [str(pin) for pin in LOCK if not re.fullmatch(r"==[^,*]+", str(pin.specifier))] == []


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_what_is_declared_is_locked_within_its_bounds(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    assert version_of(pin) in requirement.specifier


def test_conda_gets_the_same_pins_and_a_python_that_is_supported():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    *plain, nested = environment["dependencies"]
    assert nested == {"pip": ["-c requirements.lock", "-e .[dev]"]}
    assert sorted(entry.split("=")[0] for entry in plain) == ["pip", "python"]
    (python,) = (entry.split("=")[1] for entry in plain if entry.startswith("python="))
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])


def test_the_front_door_accepts_the_pythons_that_the_project_supports():
    script = (REPOSITORY / "run").read_text(encoding="utf-8")
    low, high = re.search(r"\((\d+, \d+)\) <= sys.version_info\[:2\] <= \((\d+, \d+)\)", script).groups()
    supported = SpecifierSet(PROJECT["requires-python"])
    for minor in range(8, 20):
        accepted = int(low.split(", ")[1]) <= minor <= int(high.split(", ")[1])
        assert (Version(f"3.{minor}.1") in supported) == accepted


@pytest.mark.parametrize(
    ("name", "bounds", "reason"),
    [
        ("nilearn", ">=0.14.1,<0.15", "0.14.0 is yanked: its maskers truncate integer images; 0.13 casts"),
        ("snakemake", ">=9.15,<9.16", "9.16 to 9.27 want packaging<26, and a resolver then takes nilearn 0.13"),
        ("packaging", ">=26", "nilearn 0.14.1 wants it"),
        ("torch", "==2.13.*", "an open bound takes another build with other results"),
        ("snakemake-executor-plugin-slurm", ">=2.8,<2.9", "its options are those that were tried"),
    ],
)
def test_pins_that_were_paid_for_hold(name, bounds, reason):
    assert version_of(PINS[name]) in SpecifierSet(bounds), reason


HARMFUL = ["torchvision", "lpips", "pybids", "niworkflows", "ploomber", "lightning", "hydra-core"]


@pytest.mark.parametrize("name", HARMFUL)
def test_packages_that_do_harm_stay_out(name):
    assert name not in {canonicalize_name(pin.name) for pin in LOCK}


def test_the_lock_needs_no_graphics_card():
    """A constraint that is not met by a CPU build would force gigabytes of CUDA onto everybody."""
    assert str(PINS["torch"].specifier) == "==2.13.0"
    assert not [pin for pin in LOCK if pin.url]


def test_what_is_installed_is_what_is_locked():
    different = {}
    for name, pin in PINS.items():
        try:
            installed = Version(metadata.version(name))
        except metadata.PackageNotFoundError:  # not needed with this build of torch
            continue
        if Version(installed.public) != version_of(pin):
            different[name] = f"{installed}, locked {version_of(pin)}"
    assert different == {}


def test_the_licence_is_apache_2_and_the_citation_names_both_studies():
    licence = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert citation["version"] == PROJECT["version"]
    assert [entry["authors"][0]["family-names"] for entry in citation["references"]] == ["Hu", "Jeong"]
