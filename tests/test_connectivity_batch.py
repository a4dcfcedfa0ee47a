"""Many subjects: none lost, none stopping the others, none made twice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from small_runs import SPACE, write_atlas, write_run, write_small_manifest
from typer.testing import CliRunner

from cinp_lib.connectivity import (
    FunctionalConnectivity,
    NetworkSettings,
    SeriesSettings,
    bold_series,
    load_networks,
    load_series,
    make_networks,
    region_names,
)
from cinp_lib.connectivity.__main__ import app
from study_lib.files import sha256_of
from study_lib.manifest import Manifest

SETTINGS = NetworkSettings(SeriesSettings.of("24p_acompcor_scrub"))


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, Manifest]:
    """Three subjects with BOLD (one of them cut short), one with series, one of another atlas, one with a T1w only."""
    rows = []
    for seed, subject in enumerate(("a", "b", "cut")):
        bold = write_run(tmp_path, subject, seed=seed)
        rows.append(
            {
                "subject": subject,
                "bold": bold.name,
                "confounds": f"sub-{subject}_task-rest_desc-confounds_timeseries.tsv",
            }
        )
    bold.write_bytes(bold.read_bytes()[:20_000])
    for subject, columns in (("series", 116), ("cc200", 200)):
        np.save(tmp_path / f"{subject}.npy", np.random.default_rng(7).normal(size=(90, columns)))
        rows.append({"subject": subject, "time_series": f"{subject}.npy"})
    rows.append({"subject": "anatomy", "t1w": "a.nii.gz"})
    return tmp_path, write_small_manifest(tmp_path, rows)


def test_one_bad_subject_does_not_stop_the_others_and_is_listed_with_its_fix(cohort) -> None:
    folder, manifest = cohort
    atlas = write_atlas(folder)
    result = make_networks(manifest, folder / "out", SETTINGS, atlas, progress=False)
    assert sorted(result.made) == ["sub-a", "sub-b", "sub-series"] and result.without_series == 1
    failures = pd.read_csv(folder / "out" / "failures.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(failures, result.failures, check_dtype=False)
    assert failures["subject"].tolist() == ["cc200", "cut"]
    assert "another atlas" in failures["reason"][0] and "truncated" in failures["reason"][1]
    assert failures["fix"].str.len().min() > 10 and failures["file"].str.contains("cc200|sub-cut").all()


def test_saved_networks_are_those_of_the_single_steps_with_their_provenance(cohort) -> None:
    folder, manifest = cohort
    atlas = write_atlas(folder)
    make_networks(manifest, folder / "out", SETTINGS, atlas, progress=False)
    subjects, networks, table = load_networks(folder / "out")
    assert subjects == ["a", "b", "series"] == table["subject"].tolist() and networks.shape == (3, 116, 116)
    bold = manifest.root / manifest.table["bold"][0]
    series = bold_series(bold, atlas, SETTINGS.series)
    expected = FunctionalConnectivity().fit_transform([series.time_series])[0]
    np.testing.assert_allclose(networks[subjects.index("a")], expected, atol=1e-7)
    record = json.loads((folder / "out" / "networks" / "sub-a.json").read_text())
    assert record["inputs"][0]["sha256"] == sha256_of(bold) and record["kept_volumes"] == 118
    assert record["settings"]["series"]["strategy"]["fd_threshold_mm"] == 0.5
    assert record["mean_fd_mm"] == pytest.approx(series.mean_fd_mm) and table["source"].tolist()[2] == "time_series"
    assert region_names(folder / "out") == list(atlas.names)
    _, all_series, _ = load_series(folder / "out")
    tangent = FunctionalConnectivity("tangent").fit(all_series[:2]).transform(all_series[2:])
    assert tangent.shape == (1, 116, 116)


def test_a_second_batch_makes_only_what_is_missing_or_changed(cohort) -> None:
    folder, manifest = cohort
    atlas, out = write_atlas(folder), folder / "out"
    make_networks(manifest, out, SETTINGS, atlas, progress=False)
    again = make_networks(manifest, out, SETTINGS, atlas, progress=False)
    assert again.made == [] and len(again.skipped) == 3 and len(again.failures) == 2
    (out / "networks" / "sub-a.json").unlink()  # as if stopped before it was finished
    write_run(folder, "b", seed=9)
    repaired = make_networks(manifest, out, SETTINGS, atlas, progress=False)
    assert repaired.made == ["sub-a", "sub-b"] and repaired.skipped == ["sub-series"]
    other = make_networks(manifest, out, NetworkSettings(SeriesSettings.of("minimal")), atlas, progress=False)
    assert len(other.made) == 3 and other.skipped == []


def test_a_subject_that_fails_now_leaves_no_older_network_behind(cohort) -> None:
    folder, manifest = cohort
    atlas, out = write_atlas(folder), folder / "out"
    make_networks(manifest, out, SETTINGS, atlas, progress=False)
    (folder / "series.npy").write_bytes(b"no array")
    result = make_networks(manifest, out, SETTINGS, atlas, progress=False)
    assert "series" in result.failures["subject"].tolist() and load_networks(out)[0] == ["a", "b"]


def test_workers_give_the_same_files_as_one_process(cohort) -> None:
    folder, manifest = cohort
    atlas = write_atlas(folder)
    for n_jobs in (1, 2):
        make_networks(manifest, folder / str(n_jobs), SETTINGS, atlas, n_jobs, progress=False)
    for path in sorted((folder / "1").rglob("*.*")):
        assert path.read_bytes() == (folder / "2" / path.relative_to(folder / "1")).read_bytes(), path


def test_sessions_make_one_network_together_or_one_each(tmp_path: Path) -> None:
    atlas = write_atlas(tmp_path)
    rows = []
    for session in ("1", "2"):
        bold = write_run(tmp_path / f"ses-{session}", "a", seed=int(session))
        confounds = "sub-a_task-rest_desc-confounds_timeseries.tsv"
        rows.append({"subject": "a", "session": session, "bold": f"ses-{session}/{bold.name}"})
        rows[-1]["confounds"] = f"ses-{session}/{confounds}"
    manifest = write_small_manifest(tmp_path, rows)
    together = make_networks(manifest, tmp_path / "one", SETTINGS, atlas, progress=False)
    assert together.made == ["sub-a"]
    _, _, table = load_networks(tmp_path / "one")
    assert table["runs"].tolist() == [2] and table["session"].tolist() == ["1+2"] and table["volumes"].tolist() == [240]
    apart = NetworkSettings(SETTINGS.series, per_session=True)
    assert make_networks(manifest, tmp_path / "two", apart, atlas, progress=False).made == [
        "sub-a_ses-1",
        "sub-a_ses-2",
    ]
    assert load_networks(tmp_path / "two")[2]["session"].tolist() == ["1", "2"]


def test_a_sibling_run_with_a_row_of_its_own_is_read_once(tmp_path: Path) -> None:
    atlas = write_atlas(tmp_path)
    bolds = [write_run(tmp_path, "a", run=run, seed=int(run)) for run in "123"]
    named = [{"subject": "a", "session": f"r{n}", "bold": bold.name} for n, bold in enumerate(bolds[:2])]
    manifest = write_small_manifest(tmp_path, named)
    make_networks(manifest, tmp_path / "one", SETTINGS, atlas, progress=False)
    assert load_networks(tmp_path / "one")[2]["runs"].tolist() == [3]
    apart = NetworkSettings(SETTINGS.series, per_session=True)
    make_networks(manifest, tmp_path / "two", apart, atlas, progress=False)
    assert load_networks(tmp_path / "two")[2]["runs"].tolist() == [2, 1]  # run 3 has no row: it goes with run 1


def test_a_file_that_is_not_what_the_manifest_says_is_refused(cohort) -> None:
    folder, manifest = cohort
    manifest.table.loc[manifest.table["subject"] == "series", "time_series_sha256"] = "0" * 64
    result = make_networks(manifest, folder / "out", SETTINGS, write_atlas(folder), progress=False)
    row = result.failures.set_index("subject").loc["series"]
    assert "SHA-256 that the manifest has" in row["reason"] and "build the manifest again" in row["fix"]


def test_a_repaired_run_that_was_left_out_is_taken_in_the_next_batch(tmp_path: Path) -> None:
    atlas = write_atlas(tmp_path)
    first, second = (write_run(tmp_path, "a", run=run) for run in "12")
    whole = second.read_bytes()
    second.write_bytes(whole[:9000])
    manifest = write_small_manifest(tmp_path, [{"subject": "a", "bold": first.name}])
    for content, runs in ((whole[:9000], 1), (whole, 2)):
        second.write_bytes(content)
        make_networks(manifest, tmp_path / "out", SETTINGS, atlas, progress=False)
        table = load_networks(tmp_path / "out")[2]
        assert table["runs"].tolist() == [runs] and ("run-2" in table["notes"][0]) == (runs == 1)


def test_damaged_or_mixed_results_are_refused(cohort) -> None:
    folder, manifest = cohort
    atlas, out = write_atlas(folder), folder / "out"
    make_networks(manifest, out, SETTINGS, atlas, progress=False)
    record = out / "networks" / "sub-a.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"settings_digest": "other"}))
    with pytest.raises(ValueError, match="one set of settings, got 2"):
        load_networks(out)
    record.write_text(json.dumps(content))
    (out / "networks" / "sub-a.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="checksum"):
        load_networks(out)
    with pytest.raises(FileNotFoundError, match=r"python -m cinp_lib\.connectivity"):
        load_networks(folder / "nothing")


@pytest.mark.parametrize("wrong", [{"kind": "pearson"}, {"prefer": "t1w"}])
def test_settings_that_fit_nobody_are_refused_before_any_subject(cohort, wrong: dict) -> None:
    folder, manifest = cohort
    with pytest.raises(ValueError, match=r"expected (correlation or partial|bold or time_series), got"):
        make_networks(manifest, folder / "out", NetworkSettings(**wrong), progress=False)


def test_tangent_is_refused_in_a_batch_since_its_reference_would_see_everybody(cohort) -> None:
    folder, manifest = cohort
    with pytest.raises(ValueError, match="learned from training subjects"):
        make_networks(manifest, folder / "out", NetworkSettings(kind="tangent"), write_atlas(folder), progress=False)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_command_reports_failures_and_fails_only_without_any_network(cohort) -> None:
    folder = cohort[0]
    write_atlas(folder)
    atlas = next(folder.glob("*atlas-small*"))
    options = ("--out", folder / "out", "--atlas", atlas, "--atlas-as-is", "--n-jobs", 1)
    done = command("--manifest", folder / "manifest.csv", *options)
    assert done.exit_code == 0 and "3 networks made, 0 were there, 2 failed" in done.stderr
    assert "cut" in done.stderr and "Fix:" in done.stderr
    for path in folder.glob(f"sub-*_{SPACE}_desc-preproc_bold.nii.gz"):
        path.write_bytes(b"")
    (folder / "series.npy").unlink()
    assert command("--manifest", folder / "manifest.csv", *options).exit_code == 1
    wrong = command("--manifest", folder / "manifest.csv", "--out", folder / "out", "--strategy", "best")
    assert wrong.exit_code == 2 and "expected one of none, minimal" in wrong.stderr


def test_the_phantom_needs_no_options(phantom: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "cinp_lib.connectivity", "--manifest", str(phantom), "--out", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0 and "networks: 100%" in done.stderr, done.stderr
    subjects, networks, table = load_networks(tmp_path / "out")
    expected = pd.read_csv(phantom)
    expected = expected[(expected["bold"].fillna("") != "") | (expected["time_series"].fillna("") != "")]
    assert sorted(subjects) == sorted(expected["subject"].unique())
    assert set(table["source"]) == {"bold", "time_series"} and np.isfinite(networks).all()
    assert not table["n_missing"].any()
