"""`python -m study_lib.sources`, and what data_manifests/README.md says of it."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from source_trees import empty_files, write_tree
from typer.testing import CliRunner

from study_lib.manifest import COLUMN_SPECS, load_manifest
from study_lib.sources import SOURCES, curate
from study_lib.sources.__main__ import app

ELEVEN = ["smc", "adni", "gsev", "gmc", "hbn", "hcp", "qtim", "cnp", "abide", "adhd200", "srpbs"]
UNVERIFIED = {"smc", "adni", "gsev", "gmc", "hcp", "srpbs"}


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def root(tmp_path):
    people = [["participant_id", "age", "diagnosis"], ["sub-1", "30", "hc"], ["sub-2", "40", "hc"]]
    return write_tree(tmp_path / "data", {"participants.tsv": people, **empty_files("sub-1/anat/sub-1_T1w.nii.gz")})


def test_the_command_writes_a_manifest_with_its_exclusions_and_warnings(root, tmp_path):
    result = run("bids", "--root", root, "--out", tmp_path / "m.csv", "--cohort", "mine")
    assert result.exit_code == 0, result.output
    manifest = load_manifest(tmp_path / "m.csv", check_files=False)
    assert manifest.root.resolve() == root and manifest.table["cohort"].tolist() == ["mine"]
    assert pd.read_csv(tmp_path / "m_excluded.csv")["subject"].tolist() == [2]
    assert (tmp_path / "m_warnings.csv").exists()
    assert (
        "2 people read, 1 scans of 1 subjects kept" in result.output
        and "1 excluded: listed, but no T1w" in result.output
    )


def test_it_is_the_same_manifest_twice(root, tmp_path):
    for name in ("a", "b"):
        assert run("bids", "--root", root, "--out", tmp_path / f"{name}.csv").exit_code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_wrong_root_ends_with_a_plain_sentence(tmp_path):
    result = run("abide", "--root", tmp_path / "nowhere", "--out", tmp_path / "m.csv")
    assert result.exit_code == 1 and "no folder at" in result.output and "Traceback" not in result.output


def test_nothing_found_is_an_error_that_gives_the_reasons_and_still_lists_who(root, tmp_path):
    (root / "sub-1/anat/sub-1_T1w.nii.gz").unlink()
    result = run("bids", "--root", root, "--out", tmp_path / "m.csv")
    assert result.exit_code == 1 and "no scan left" in result.output and "2 x listed, but no T1w" in result.output
    assert len(pd.read_csv(tmp_path / "m_excluded.csv")) == 2 and not (tmp_path / "m.csv").exists()


def test_a_misspelt_data_set_is_told_from_the_known_ones():
    result = run("abdie", "--root", ".", "--out", "m.csv")
    assert result.exit_code != 0 and "abdie" in result.output
    with pytest.raises(KeyError, match="no data set 'abdie': expected one of smc, adni"):
        curate("abdie", ".")


def test_the_list_says_which_adapters_have_met_real_data():
    output = run("list").output
    for name, source in SOURCES.items():
        assert re.search(rf"\b{name}\b.*{source.status}", output), name


def test_all_eleven_data_sets_have_an_adapter_with_an_honest_status():
    assert set(ELEVEN) <= set(SOURCES)
    assert {name for name in ELEVEN if SOURCES[name].status == "from documentation"} == UNVERIFIED


def test_the_module_runs_from_the_shell():
    result = subprocess.run(
        [sys.executable, "-m", "study_lib.sources", "list"], capture_output=True, text=True, check=True
    )
    assert "abide" in result.stdout


def test_the_readme_documents_every_column_and_every_data_set(repository):
    readme = (repository / "data_manifests" / "README.md").read_text()
    for column in COLUMN_SPECS:
        row = re.search(rf"^\| `{column.name}` \|.*$", readme, re.M)
        assert row and column.unit in row.group(), column.name
    for name in ELEVEN:
        section = re.search(rf"^### .*\(`{name}`\)\n(.*?)(?=^### |\Z)", readme, re.M | re.S)
        assert section, name
        assert f"python -m study_lib.sources {name} " in section.group(1), name
        assert f"Status: {SOURCES[name].status}" in section.group(1), name
