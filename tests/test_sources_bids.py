"""The indexer of BIDS trees and fMRIPrep outputs, and the adapter for any data set of that form."""

import os
import random
from pathlib import Path

import pandas as pd
import pytest
from source_trees import empty_files, unpack, write_tree

from study_lib.manifest import load_manifest
from study_lib.sources import curate, write_curation
from study_lib.sources.problems import Problems
from study_lib.sources.scans import ScanChoice, find_scans
from study_lib.sources.sidecars import SidecarReader
from study_lib.sources.tree import index_tree

FMRIPREP = "derivatives/fmriprep"
MNI = "space-MNI152NLin2009cAsym"
T1W = {"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "RepetitionTime": 2, "SequenceName": "*tfl3d1"}


def scans_in(root: Path, **choice: str) -> tuple[pd.DataFrame, list[str]]:
    """The scans of a tree, and the reasons of the warnings."""
    problems = Problems(root)
    scans = find_scans(index_tree(root), ScanChoice(**choice), problems)
    return scans, [row["reason"] for row in problems.warnings]


def only(scans: pd.DataFrame) -> pd.Series:
    assert len(scans) == 1
    return scans.iloc[0]


# --- which files there are


def test_every_file_of_interest_is_indexed_and_no_other(tmp_path):
    wanted = ["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/ses-a/func/sub-1_ses-a_task-rest_bold.nii", "T1w.json"]
    wanted += [f"{FMRIPREP}/sub-1/anat/sub-1_desc-brain_mask.nii.gz", "sub-1/sub-1_sessions.tsv"]
    other = ["sub-1/anat/sub-1_T2w.nii.gz", "sub-1/figures/sub-1_T1w.nii.gz", ".git/sub-1/anat/sub-1_T1w.nii.gz"]
    other += ["truth/sub-1/anat/sub-1_T1w.nii.gz", "sourcedata/fs/sub-1/anat/sub-1_T1w.nii.gz", "README"]
    write_tree(tmp_path, empty_files(*wanted, *other))
    assert sorted(index_tree(tmp_path)["path"]) == sorted(wanted)


@pytest.mark.parametrize("name", ["ds000030_R1.0.5", "fmriprep-23.1.3", "a[b]c", ".hidden", "sub-data"])
def test_the_name_of_the_root_does_not_matter(tmp_path, name):
    write_tree(tmp_path / name, empty_files("sub-1/anat/sub-1_T1w.nii.gz"))
    index = index_tree(tmp_path / name)
    assert index[["sub", "datatype", "path"]].to_numpy().tolist() == [["1", "anat", "sub-1/anat/sub-1_T1w.nii.gz"]]


def test_an_empty_folder_that_is_filled_later_is_read_anew(tmp_path):
    assert index_tree(tmp_path).empty
    write_tree(tmp_path, empty_files("sub-1/anat/sub-1_T1w.nii.gz"))
    assert len(index_tree(tmp_path)) == 1


def test_dangling_links_are_files_of_the_data_set(tmp_path):
    (tmp_path / "sub-1/anat").mkdir(parents=True)
    (tmp_path / "sub-1/anat/sub-1_T1w.nii.gz").symlink_to("../../.git/annex/objects/x/MD5E-s1--0.nii.gz")
    assert index_tree(tmp_path)["path"].tolist() == ["sub-1/anat/sub-1_T1w.nii.gz"]


def test_a_missing_root_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder at .*nowhere: --root must be"):
        index_tree(tmp_path / "nowhere")


def test_the_index_has_every_real_t1w_and_bold_that_a_plain_walk_finds(shared_data, tmp_path):
    root = unpack(shared_data / "bids/ds004712_on_harmony_phaseA_T1w_rest.tar.gz", tmp_path)
    walked = {
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith(("_T1w.nii.gz", "_bold.nii.gz"))
    }
    index = index_tree(root)
    assert set(index.loc[index["ext"] == ".nii.gz", "path"]) == walked and len(walked) == 80 + 99


# --- sidecars


def test_a_nearer_sidecar_overrules_a_farther_one_and_keeps_the_rest(tmp_path):
    write_tree(
        tmp_path,
        {
            "T1w.json": {"A": "root", "B": "root", "C": "root"},
            "acq-x_T1w.json": {"B": "root, acq-x"},
            "acq-y_T1w.json": {"C": "of another image"},
            "sub-1/ses-1/anat/sub-1_ses-1_acq-x_T1w.json": {"A": "own"},
            "sub-1/ses-1/anat/sub-1_ses-1_acq-x_T1w.nii.gz": "1",
        },
    )
    files = index_tree(tmp_path)
    image = files[files["ext"] == ".nii.gz"].to_dict("records")[0]
    metadata = SidecarReader(tmp_path, files).metadata(image)
    assert metadata == {"A": "own", "B": "root, acq-x", "C": "root"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{not json", "cannot be read as JSON"), ("[1, 2]", "expected a JSON object, got list"), (None, "not here")],
)
def test_a_sidecar_that_cannot_be_used_is_named_and_the_scan_stays(tmp_path, content, reason):
    write_tree(tmp_path, empty_files("sub-1/anat/sub-1_T1w.nii.gz"))
    sidecar = tmp_path / "sub-1/anat/sub-1_T1w.json"
    sidecar.write_text(content) if content else sidecar.symlink_to("../../.git/annex/objects/gone.json")
    curation = curate("bids", tmp_path)
    told = curation.warnings[curation.warnings["file"] == "sub-1/anat/sub-1_T1w.json"]
    assert len(curation.table) == 1 and reason in told["reason"].item()


# --- one row per session, and which file fills a cell


def test_fmriprep_outputs_are_put_together_with_the_raw_scan(tmp_path):
    anat, func = f"{FMRIPREP}/sub-1/anat/sub-1", f"{FMRIPREP}/sub-1/func/sub-1_task-rest"
    files = {
        "t1w": f"{anat}_desc-preproc_T1w.nii.gz",
        "t1w_mask": f"{anat}_desc-brain_mask.nii.gz",
        "bold": f"{func}_{MNI}_res-2_desc-preproc_bold.nii.gz",
        "confounds": f"{func}_desc-confounds_timeseries.tsv",
        "time_series": f"{func}_atlas-AAL116_timeseries.tsv",
        "source": "sub-1/anat/sub-1_T1w.nii.gz",
    }
    not_taken = [f"{anat}_{MNI}_desc-preproc_T1w.nii.gz", f"{anat}_{MNI}_desc-brain_mask.nii.gz"]
    not_taken += [f"{func}_desc-preproc_bold.nii.gz", f"{func}_{MNI}_desc-brain_mask.nii.gz"]
    not_taken += [f"{func}_space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz"]
    not_taken += ["sub-1/func/sub-1_task-rest_bold.nii.gz", f"{func}_echo-1_{MNI}_desc-preproc_bold.nii.gz"]
    write_tree(tmp_path, empty_files(*files.values(), *not_taken))
    scans, reasons = scans_in(tmp_path)
    assert only(scans)[list(files)].to_dict() == files and reasons == []


def test_the_choice_does_not_depend_on_the_order_of_the_files(tmp_path):
    names = [f"{FMRIPREP}/sub-1/func/sub-1_task-rest_run-{run}_{MNI}_desc-preproc_bold.nii.gz" for run in (10, 2, 3)]
    names += [f"sub-1/anat/sub-1_{label}T1w.nii.gz" for label in ("acq-b_", "acq-a_run-2_", "acq-a_run-10_")]
    write_tree(tmp_path, empty_files(*names))
    files = index_tree(tmp_path)
    for seed in range(5):
        shuffled = files.sample(frac=1, random_state=random.Random(seed).randrange(99)).reset_index(drop=True)
        scan = only(find_scans(shuffled, ScanChoice(), Problems(tmp_path)))
        assert scan["t1w"].endswith("acq-a_run-2_T1w.nii.gz") and "run-2_" in scan["bold"]


def test_further_runs_are_named_in_a_warning(tmp_path):
    func = f"{FMRIPREP}/sub-1/ses-1/func/sub-1_ses-1_task-rest"
    runs = [f"{func}_run-{run}_{MNI}_desc-preproc_bold.nii.gz" for run in (1, 2)]
    write_tree(tmp_path, empty_files(*runs, f"{func}_run-1_desc-confounds_timeseries.tsv"))
    scans, reasons = scans_in(tmp_path)
    assert only(scans)["bold"] == runs[0]
    assert reasons == [f"2 files could be the bold; not used: {runs[1]}"]


def test_confounds_belong_to_the_run_that_was_taken_in_their_new_or_their_old_name(tmp_path):
    func = f"{FMRIPREP}/sub-1/func/sub-1_task-rest"
    files = [f"{func}_run-{run}_{MNI}_desc-preproc_bold.nii.gz" for run in (1, 2)]
    files += [f"{func}_run-2_desc-confounds_timeseries.tsv", f"{func}_run-1_desc-confounds_regressors.tsv"]
    write_tree(tmp_path, empty_files(*files))
    assert only(scans_in(tmp_path)[0])["confounds"] == f"{func}_run-1_desc-confounds_regressors.tsv"
    write_tree(tmp_path, empty_files(f"{func}_run-1_desc-confounds_timeseries.tsv"))
    assert only(scans_in(tmp_path)[0])["confounds"] == f"{func}_run-1_desc-confounds_timeseries.tsv"


def test_a_run_without_confounds_stays_and_is_named(tmp_path):
    write_tree(tmp_path, empty_files(f"{FMRIPREP}/sub-1/func/sub-1_task-rest_{MNI}_desc-preproc_bold.nii.gz"))
    scans, reasons = scans_in(tmp_path)
    assert only(scans)["confounds"] == "" and reasons == ["no confounds file of this run"]


def test_raw_bold_is_never_taken_and_the_data_set_says_so_once(tmp_path):
    raw = [f"sub-{n}/func/sub-{n}_task-rest_bold.nii.gz" for n in (1, 2)]
    write_tree(tmp_path, empty_files(*raw, *(f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (1, 2))))
    scans, reasons = scans_in(tmp_path)
    assert (scans["bold"] == "").all()
    assert reasons == ["2 sessions have raw BOLD only, none is preprocessed in MNI space: bold stays empty"]


def test_where_fmriprep_ran_for_some_the_others_are_named(tmp_path):
    func = f"{FMRIPREP}/sub-1/func/sub-1_task-rest"
    files = [f"{func}_{MNI}_desc-preproc_bold.nii.gz", f"{func}_desc-confounds_timeseries.tsv"]
    files += [f"sub-{n}/func/sub-{n}_task-rest_bold.nii.gz" for n in (1, 2)]
    write_tree(tmp_path, empty_files(*files))
    problems = Problems(tmp_path)
    find_scans(index_tree(tmp_path), ScanChoice(), problems)
    assert [(row["subject"], row["reason"]) for row in problems.warnings] == [
        ("2", "raw BOLD, but no preprocessed one in MNI space")
    ]


def test_another_task_is_taken_when_asked_for(tmp_path):
    func = f"{FMRIPREP}/sub-1/func/sub-1_task-movie"
    files = [f"{func}_{MNI}_desc-preproc_bold.nii.gz", f"{func}_desc-confounds_timeseries.tsv"]
    write_tree(tmp_path, empty_files(*files))
    scans, reasons = scans_in(tmp_path)
    assert scans.empty and reasons == ["no BOLD of task 'rest'; there are movie"]
    assert only(scans_in(tmp_path, task="movie")[0])["bold"] == files[0]


def test_with_raw_preferred_the_mask_of_the_other_grid_is_left_out(tmp_path):
    anat = f"{FMRIPREP}/sub-1/anat/sub-1"
    files = ["sub-1/anat/sub-1_T1w.nii.gz", f"{anat}_desc-preproc_T1w.nii.gz", f"{anat}_desc-brain_mask.nii.gz"]
    write_tree(tmp_path, empty_files(*files))
    scan = only(scans_in(tmp_path, t1w="raw")[0])
    assert (scan["t1w"], scan["t1w_mask"]) == (files[0], "")


def test_a_mask_made_on_the_raw_grid_goes_with_the_raw_t1w(tmp_path):
    files = [
        "sub-1/ses-X/anat/sub-1_ses-X_T1w.nii.gz",
        f"{FMRIPREP}/sub-1/ses-X/anat/sub-1_ses-X_desc-brain_mask.nii.gz",
    ]
    write_tree(tmp_path, empty_files(*files))
    scan = only(scans_in(tmp_path)[0])
    assert [scan["session"], scan["t1w"], scan["t1w_mask"]] == ["X", *files]


def test_fmripreps_pooled_anatomy_belongs_to_the_only_session(tmp_path):
    anat, func = f"{FMRIPREP}/sub-1/anat/sub-1", f"{FMRIPREP}/sub-1/ses-1/func/sub-1_ses-1_task-rest"
    files = [f"{anat}_desc-preproc_T1w.nii.gz", f"{func}_{MNI}_desc-preproc_bold.nii.gz"]
    write_tree(tmp_path, empty_files(*files, f"{func}_desc-confounds_timeseries.tsv"))
    scan = only(scans_in(tmp_path)[0])
    assert [scan["session"], scan["t1w"], scan["bold"]] == ["1", *files]


def test_anatomy_pooled_over_sessions_never_stands_for_one_of_them(tmp_path):
    pooled = f"{FMRIPREP}/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz"
    raw = [f"sub-1/ses-{s}/anat/sub-1_ses-{s}_T1w.nii.gz" for s in ("GE", "Philips")]
    write_tree(tmp_path, empty_files(pooled, *raw))
    scans, reasons = scans_in(tmp_path)
    assert scans["t1w"].tolist() == raw
    assert reasons == ["fMRIPrep pooled the T1w of 2 sessions into one: each session keeps its raw T1w"]


def test_volumes_that_are_no_t1w_of_the_whole_are_passed_over(tmp_path):
    anat = "sub-1/anat/sub-1"
    odd = ["ce-gd_T1w", "part-phase_T1w", "echo-2_T1w", "inv-1_T1w", "mod-T1w_defacemask"]
    write_tree(tmp_path, empty_files(f"{anat}_T1w.nii.gz", *(f"{anat}_{name}.nii.gz" for name in odd)))
    scans, reasons = scans_in(tmp_path)
    assert only(scans)["t1w"] == f"{anat}_T1w.nii.gz" and reasons == []


def test_real_fmriprep_outputs_of_two_versions(shared_data, tmp_path):
    new = unpack(shared_data / "fmriprep/abide_sub-v1s0x0050642_fmriprep25.2.4.tar.gz", tmp_path / "new")
    scan = only(scans_in(new)[0])
    stem = "sub-v1s0x0050642/ses-1/func/sub-v1s0x0050642_ses-1_task-rest_run-1"
    assert scan["bold"] == f"{stem}_{MNI}_desc-preproc_bold.nii.gz"
    assert scan["confounds"] == f"{stem}_desc-confounds_timeseries.tsv"
    old = unpack(shared_data / "bids/bids-examples_ds000001-fmriprep.tar.gz", tmp_path / "old")
    scans, reasons = scans_in(old, task="balloonanalogrisktask")
    assert len(scans) == 4 and (scans[["t1w", "t1w_mask", "bold", "confounds"]] != "").all(axis=None)
    assert scans["bold"].str.contains("run-1_").all() and len(reasons) == 4  # runs 2 and 3 are named


# --- the adapter


def phantom(root: Path, subjects: int = 3) -> Path:
    """A tree as the project's own cohort has it: one session per site for those who travel."""
    people = [["role", "participant_id", "family_id", "cohort", "age", "sex", "diagnosis"]]
    files: dict[str, object] = {}
    for number in range(subjects):
        name = f"sub-p{number}"
        travels = number == 0
        for site in ("ADNI", "GMC") if travels else ("SMC",):
            ses = f"ses-{site}/" if travels else ""
            stem = f"{name}_ses-{site}" if travels else name
            files[f"{name}/{ses}anat/{stem}_T1w.nii.gz"] = f"{name}{site}"
            files[f"{name}/{ses}anat/{stem}_T1w.json"] = T1W | {"InstitutionName": site}
            files[f"{FMRIPREP}/{name}/{ses}anat/{stem}_desc-brain_mask.nii.gz"] = "mask"
        func = f"{FMRIPREP}/{name}/func/{name}_task-rest"
        if not travels:
            files[f"{func}_space-MNI152NLin2009aSym_desc-preproc_bold.nii.gz"] = f"bold {name}"
            files[f"{func}_desc-confounds_timeseries.tsv"] = f"confounds {name}"
        role = "travelling" if travels else "pre-training"
        family = name.removeprefix("sub-") if travels else "fam-1"
        people.append([role, name, family, "phantom-hbn", str(20 + number), "F", "control"])
    return write_tree(root, {**files, "participants.tsv": people, "dataset_description.json": {"Name": "phantom"}})


def test_the_projects_own_cohort_becomes_a_valid_manifest(tmp_path):
    root = phantom(tmp_path / "cohort")
    curation = curate("bids", root)
    write_curation(curation, tmp_path / "manifest.csv", root)
    table = load_manifest(tmp_path / "manifest.csv", check_files=False).table
    assert curation.excluded.empty and curation.warnings.empty
    assert table["site"].tolist() == ["ADNI", "GMC", "SMC", "SMC"]
    assert table["session"].tolist() == ["ADNI", "GMC", "", ""]
    assert table["role"].tolist() == ["travelling"] * 2 + ["pre-training"] * 2
    assert table["family"].tolist() == ["p0", "p0", "fam-1", "fam-1"] and set(table["cohort"]) == {"phantom-hbn"}
    assert (table["t1w_mask"] != "").all() and (table["bold"] != "").sum() == 2
    assert table["t1w_sha256"].str.fullmatch("[0-9a-f]{64}").all() and table["t1w_sha256"].is_unique


def test_a_user_need_not_name_anything(tmp_path):
    write_tree(tmp_path / "My Study", empty_files("sub-1/anat/sub-1_T1w.nii.gz"))
    row = only(curate("bids", tmp_path / "My Study").table)
    assert [row["family"], row["cohort"], row["site"], row["diagnosis"], row["role"]] == [
        *("1", "my-study", "MY-STUDY", "unknown", "unassigned"),
    ]


def test_everyone_of_the_table_is_in_the_manifest_or_excluded_by_name_and_line(tmp_path):
    people = [["participant_id", "age", "sex", "diagnosis"], ["sub-1", "30", "F", "control"]]
    people += [["sub-2", "230", "F", "control"], ["sub-3", "30", "F", "melancholia"], ["sub-4", "30", "M", "asd"]]
    people += [["sub-5", "0", "M", "control"], ["sub-6", "n/a", "n/a", "n/a"], ["n/a", "30", "F", "control"]]
    scans = [f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (1, 2, 3, 5, 6)]
    write_tree(tmp_path, {"participants.tsv": people, **empty_files(*scans)})
    curation = curate("bids", tmp_path)
    assert curation.table["subject"].tolist() == ["1", "6"]
    told = {(row.line, row.subject, row.column) for row in curation.excluded.itertuples()}
    assert told == {
        *((3, "2", "age_years"), (4, "3", "diagnosis"), (5, "4", "t1w"), (6, "5", "age_years")),
        (8, "", "subject"),
    }
    reasons = curation.excluded.set_index("subject")["reason"]
    assert "age '230' is not between 0 and 120 years" in reasons["2"] and "'melancholia'" in reasons["3"]
    assert set(curation.excluded["file"]) == {"participants.tsv"}


def test_scans_of_people_whom_the_table_does_not_list_are_kept_and_named(tmp_path):
    people = [["participant_id", "age"], ["sub-1", "30"]]
    scans = [f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (1, 2)]
    write_tree(tmp_path, {"participants.tsv": people, **empty_files(*scans)})
    curation = curate("bids", tmp_path)
    assert curation.table["subject"].tolist() == ["1", "2"]
    assert curation.warnings["subject"].tolist() == ["2"] and curation.table["diagnosis"].eq("unknown").all()


def test_a_repeated_row_is_read_once_and_contradictory_rows_exclude_their_subject(tmp_path):
    people = [["participant_id", "age"], ["sub-1", "30"], ["sub-1", "30"], ["sub-2", "30"], ["sub-2", "31"]]
    scans = [f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (1, 2)]
    write_tree(tmp_path, {"participants.tsv": people, **empty_files(*scans)})
    curation = curate("bids", tmp_path)
    assert curation.table["subject"].tolist() == ["1"]
    assert curation.excluded[["line", "subject"]].to_numpy().tolist() == [[4, "2"], [5, "2"]]
    assert "line 5 says something else" in curation.excluded["reason"][0]


def test_sessions_tsv_overrules_participants_tsv_at_its_sessions(tmp_path):
    write_tree(
        tmp_path,
        {
            "participants.tsv": [["participant_id", "age", "diagnosis"], ["sub-1", "70", "cn"], ["sub-2", "60", "cn"]],
            "sub-1/sub-1_sessions.tsv": [
                ["session_id", "age", "diagnosis"],
                ["ses-M0", "70.5", "n/a"],
                ["ses-M12", "71.5", "MCI"],
            ],
            **empty_files(*(f"sub-1/ses-{s}/anat/sub-1_ses-{s}_T1w.nii.gz" for s in ("M0", "M12"))),
            **empty_files("sub-2/ses-M0/anat/sub-2_ses-M0_T1w.nii.gz"),
        },
    )
    table = curate("bids", tmp_path).table
    assert table["age_years"].tolist() == [70.5, 71.5, 60.0]
    assert table["diagnosis"].tolist() == ["control", "mci", "control"]


def test_data_sets_of_several_sites_under_one_root_are_read_together(tmp_path):
    header = ["participant_id", "age"]
    write_tree(
        tmp_path,
        {
            "A/participants.tsv": [header, ["sub-1", "30"], ["sub-2", "40"]],
            "B/participants.tsv": [header, ["sub-1", "31"]],
            **empty_files(*(f"{s}/sub-1/anat/sub-1_T1w.nii.gz" for s in "AB"), "A/sub-2/anat/sub-2_T1w.nii.gz"),
            **empty_files(f"{FMRIPREP}/sub-2/anat/sub-2_desc-brain_mask.nii.gz"),
        },
    )
    table = curate("bids", tmp_path).table
    assert table[["subject", "session", "site", "age_years", "role"]].to_numpy().tolist() == [
        ["1", "A", "A", 30.0, "travelling"],
        ["1", "B", "B", 31.0, "travelling"],
        ["2", "", "A", 40.0, "unassigned"],
    ]
    assert table["t1w_mask"].tolist() == ["", "", f"{FMRIPREP}/sub-2/anat/sub-2_desc-brain_mask.nii.gz"]


def test_one_institution_in_two_spellings_is_one_site(tmp_path):
    names = {"1": "OCMR", "2": "ocmr", "3": "ocmr"}
    files = {f"sub-{n}/anat/sub-{n}_T1w.json": {"InstitutionName": name} for n, name in names.items()}
    write_tree(tmp_path, files | empty_files(*(f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in names)))
    assert curate("bids", tmp_path).table["site"].tolist() == ["ocmr"] * 3


def test_the_real_example_trees_become_valid_manifests(shared_data, tmp_path):
    for name, scans in (("7t_trt", 22), ("ds114", 20), ("pheno004", 2)):
        root = unpack(shared_data / f"bids/bids-examples_{name}.tar.gz", tmp_path / name)
        curation = curate("bids", root)
        assert len(curation.table) == scans
        everyone = set(curation.table["subject"]) | set(curation.excluded["subject"])
        assert set(curation.read["subject"]) <= everyone
        write_curation(curation, tmp_path / f"{name}.csv", root)
