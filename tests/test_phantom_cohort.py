"""The cohort on disk: the same bytes again, whatever happens on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from study_lib.lock import Busy, only_one
from study_lib.manifest import load_manifest
from study_lib.phantom.cohort import BEGUN, STAMP, ensure_cohort
from study_lib.phantom.spec import VERSION, CohortSpec, spec_for, version_key
from study_lib.phantom.truth import Truth, has_truth

TINY = CohortSpec(per_site=1, travelling=1, pretraining=3, per_task=4, n_volumes=60)


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "phantom"
    ensure_cohort(folder, TINY, workers=1, progress=False)
    return folder


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(tiny, tmp_path):
    ensure_cohort(tmp_path / "other", TINY, workers=2, progress=False)
    assert _digests(tmp_path / "other") == _digests(tiny)


def test_another_seed_gives_other_people_and_other_images(tiny, tmp_path):
    ensure_cohort(tmp_path / "other", replace(TINY, seed=1), workers=1, progress=False)
    mine, other = _digests(tiny), _digests(tmp_path / "other")
    images = [name for name in mine if name.endswith("T1w.nii.gz")]
    assert images
    assert not {mine[name] for name in images} & set(other.values())


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tiny, tmp_path):
    folder = tmp_path / "killed"
    code = (
        "from study_lib.phantom.cohort import ensure_cohort; from study_lib.phantom.spec import CohortSpec;"
        f"ensure_cohort({str(folder)!r}, {TINY!r}, workers=1, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(folder.glob(f"{BEGUN}/*.npz"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in folder.glob(f"{BEGUN}/*.npz")}
    assert len(done) >= 4
    assert not (folder / STAMP).exists()
    first = next(iter(folder.glob("sub-smc001/anat/*_T1w.nii.gz")))
    written = first.stat().st_mtime_ns
    ensure_cohort(folder, TINY, workers=1, progress=False)
    assert first.stat().st_mtime_ns == written, "what was finished is not made again"
    assert _digests(folder) == _digests(tiny)


def test_a_finished_cohort_is_left_alone_and_one_of_another_size_is_made_anew(tiny, tmp_path):
    folder = tmp_path / "again"
    small = replace(TINY, per_site=1, travelling=0, pretraining=1, per_task=4, bold_per_cohort=0)
    manifest = ensure_cohort(folder, small, workers=1, progress=False)
    written = manifest.stat().st_mtime_ns
    assert ensure_cohort(folder, small, workers=1, progress=False).stat().st_mtime_ns == written
    ensure_cohort(folder, replace(small, pretraining=2), workers=1, progress=False)
    assert (pd.read_csv(manifest)["role"] == "pre-training").sum() == 2


def test_two_processes_do_not_write_one_cohort_at_the_same_time(tmp_path):
    folder = tmp_path / "shared"
    with only_one(tmp_path / ".shared.lock"), pytest.raises(Busy, match="another run works in"):
        ensure_cohort(folder, TINY, workers=1)


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(FileExistsError, match="holds files that are no phantom"):
        ensure_cohort(tmp_path, TINY, workers=1)
    assert (tmp_path / "thesis.txt").exists()


def test_every_file_of_the_cohort_passes_the_checks_that_real_data_must_pass(phantom):
    cohort = load_manifest(phantom, n_jobs=2, read_bold=True)
    assert len(cohort.excluded) == 0, cohort.excluded.to_string()
    assert len(cohort.warnings) == 0, cohort.warnings.to_string()
    assert (cohort.table["t1w_sha256"] != "").all()


def test_the_manifest_says_which_scanner_and_which_people(phantom):
    table = load_manifest(phantom, check_files=False).table
    travelling = table[table["role"] == "travelling"]
    assert (travelling.groupby("subject").size() == 5).all()
    philips = table[table["site"] == "SMC"].iloc[0]
    assert (philips["vendor"], philips["echo_time_ms"], philips["repetition_time_kind"]) == (
        "Philips",
        4.6,
        "excitation",
    )
    siemens = table[table["site"] == "GMC"].iloc[0]
    assert (siemens["repetition_time_ms"], siemens["repetition_time_kind"]) == (1900, "inversion")
    assert table.drop_duplicates("subject")["family"].duplicated().any()
    assert set(table["cohort"].str.removeprefix("phantom-")) == {
        "smc", "adni", "gsev", "gmc", "travelling", "pretraining", "abide", "adhd200", "srpbs",
    }  # fmt: skip


def test_the_sidecar_and_the_stamp_name_the_version(phantom):
    assert json.loads(phantom.with_suffix(".json").read_text())["PhantomVersion"] == VERSION
    assert json.loads((phantom.parent / STAMP).read_text())["version"] == VERSION
    assert VERSION in version_key(spec_for("demo"))


def test_truth_reads_back_what_was_drawn(phantom):
    truth = Truth.beside(phantom)
    table = load_manifest(phantom, check_files=False).table
    assert set(truth.table("thickness_mm").index) == set(table["subject"])
    assert truth.table("thickness_mm").shape[1] == 78
    assert truth.table("log_volume").shape[1] == 116
    subjects, networks = truth.networks()
    assert set(subjects) == set(table.loc[(table["bold"] + table["time_series"]) != "", "subject"])
    assert np.allclose(np.diagonal(networks, axis1=1, axis2=2), 1)
    sides = truth.table("hemisphere_thickness_mm")
    left = truth.table("thickness_mm").filter(regex="_L$")
    assert (sides["left"].between(left.min(axis=1), left.max(axis=1))).all()
    effects = truth.effects()
    assert len(effects["affected_regions"]) == 22
    assert effects["affected_edges"]["control"] == []
    assert len(effects["affected_edges"]["autism"]) > 200
    assert set(truth.table("log_volume").columns) >= set(effects["affected_regions"])
    assert truth.sites()["GMC"]["vendor"] == "Siemens"
    assert truth.labels(table[table["role"] == "train"]["subject"].iloc[0]).is_file()


def test_the_truth_says_what_it_has_when_asked_for_what_it_has_not(phantom):
    with pytest.raises(KeyError, match="no table 'thicknes_mm': expected one of thickness_mm"):
        Truth.beside(phantom).table("thicknes_mm")
    with pytest.raises(KeyError, match="no true labels of subject 'pre0001'"):
        Truth.beside(phantom).labels("pre0001")


def test_the_negative_control_s_truth_knows_no_effect_on_anatomy(tmp_path):
    spec = replace(TINY, pretraining=1, per_task=12, coupling=0, bold_per_cohort=0)
    manifest = ensure_cohort(tmp_path / "control", spec, workers=1, progress=False)
    effects = Truth.beside(manifest).effects()
    assert effects["affected_regions"] == []
    assert all(set(shift) == {0} for shift in effects["anatomy_shift"].values())
    assert set(np.abs(effects["network_shift"]["autism"])) == {0.6}


def test_real_data_has_no_truth(tmp_path):
    assert not has_truth(tmp_path / "manifest.csv")
    with pytest.raises(FileNotFoundError, match="only the phantom has a truth folder"):
        Truth.beside(tmp_path / "manifest.csv")


def test_the_command_line_prints_the_key_and_refuses_an_unknown_profile():
    command = [sys.executable, "-m", "study_lib.phantom", "--profile"]
    key = subprocess.run([*command, "smoke", "--version-key"], capture_output=True, text=True, check=True)
    assert json.loads(key.stdout)["per_site"] == 8
    refused = subprocess.run([*command, "smok", "--version-key"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "has no phantom" in refused.stderr
    coupling = subprocess.run([*command, "smoke", "--coupling", "2"], capture_output=True, text=True)
    assert coupling.returncode == 2
    assert "expected a number from 0 to 1" in coupling.stderr
