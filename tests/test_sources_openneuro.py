"""CNP, QTIM and ON-Harmony, which lie at OpenNeuro: small copies of their layouts, and the real trees."""

import pytest
from source_trees import empty_files, unpack, write_tree

from study_lib.manifest import load_manifest
from study_lib.sources import curate, write_curation


@pytest.fixture(scope="module")
def trees(shared_data, tmp_path_factory):
    """The real data sets, whose volumes are links without content."""
    archives = {
        "cnp": "ds000030_ucla_cnp_T1w_rest",
        "qtim": "ds004169_qtim_sub0001-0599_T1w_rest",
        "on-harmony": "ds004712_on_harmony_phaseA_T1w_rest",
    }
    folder = tmp_path_factory.mktemp("openneuro")
    return {
        name: unpack(shared_data / "bids" / f"{archive}.tar.gz", folder / name) for name, archive in archives.items()
    }


def everyone_accounted_for(curation) -> bool:
    return set(curation.read["subject"]) <= set(curation.table["subject"]) | set(curation.excluded["subject"])


# --- CNP


def cnp(root):
    people = [
        ["participant_id", "diagnosis", "age", "gender", "T1w", "ScannerSerialNumber", "ghost_NoGhost"],
        ["sub-10159", "CONTROL", "30", "F", "1", "35343.0", "No_ghost"],
        ["sub-50004", "SCHZ", "38", "F", "1", "35426.0", "ghost"],
        ["sub-10299", "CONTROL", "25", "M", "n/a", "35343.0", "ghost"],
        ["sub-70001", "ADHD", "31", "M", "1", "35343.0", "No_ghost"],
    ]
    sidecar = {"ManufacturerModelName": "TrioTim", "RepetitionTime": 2.53, "SequenceName": "*tfl3d1_ns"}
    scans = empty_files(*(f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in (10159, 50004)))
    bold = empty_files("sub-10299/func/sub-10299_task-rest_bold.nii.gz")
    sidecars = {"sub-10159/anat/sub-10159_T1w.json": sidecar}
    return write_tree(root, {"participants.tsv": people, **scans, **bold, **sidecars})


def test_cnp_has_a_site_per_scanner_and_its_own_words_for_diagnoses(tmp_path):
    table = curate("cnp", cnp(tmp_path)).table
    assert table[["subject", "site", "vendor", "diagnosis", "role"]].to_numpy().tolist() == [
        ["10159", "UCLA-35343", "Siemens", "control", "pre-training"],
        ["50004", "UCLA-35426", "", "schizophrenia", "pre-training"],
    ]


def test_cnp_tells_a_t1w_never_taken_from_one_not_downloaded_and_names_ghosts(tmp_path):
    curation = curate("cnp", cnp(tmp_path))
    reasons = curation.excluded.set_index("subject")["reason"]
    assert reasons["10299"] == "participants.tsv has n/a in the column T1w: none was taken"
    assert reasons["70001"].startswith("listed, but no T1w")
    ghosts = curation.warnings[curation.warnings["reason"].str.contains("ghost")]
    assert ghosts["subject"].tolist() == ["50004"]


def test_cnp_as_it_is(trees, tmp_path):
    curation = curate("cnp", trees["cnp"])
    assert curation.read["diagnosis"].value_counts().to_dict() == {
        **{"control": 130, "schizophrenia": 50, "bipolar": 49, "adhd": 43},
    }
    assert len(curation.read) == 272 and len(curation.table) == 265 and everyone_accounted_for(curation)
    assert sorted(curation.excluded["subject"]) == [
        *("10299", "10428", "10501", "10971", "11121", "70035", "70036"),
    ]
    assert (curation.excluded["column"] == "T1w").all()
    assert curation.table[
        ["vendor", "field_strength_t", "repetition_time_ms"]
    ].drop_duplicates().to_numpy().tolist() == [["Siemens", 3.0, 2530.0]]
    write_curation(curation, tmp_path / "cnp.csv", trees["cnp"])
    assert len(load_manifest(tmp_path / "cnp.csv", check_files=False).table) == 265


# --- QTIM


def test_qtim_keeps_families_together_and_has_the_age_of_each_session(tmp_path):
    people = [
        ["participant_id", "family_id", "sex", "age", "age_ses02"],
        ["sub-0001", "fam-0225", "M", "22", "n/a"],
        ["sub-0002", "fam-0225", "F", "16", "20"],
        ["sub-0003", "fam-0393", "M", "19", "23"],
    ]
    names = [("0001", "01"), ("0002", "01"), ("0002", "02"), ("0003", "01")]
    scans = empty_files(*(f"sub-{n}/ses-{s}/anat/sub-{n}_ses-{s}_T1w.nii.gz" for n, s in names))
    curation = curate("qtim", write_tree(tmp_path, {"participants.tsv": people, **scans}))
    assert curation.table[["subject", "session", "family", "age_years"]].to_numpy().tolist() == [
        ["0001", "01", "fam-0225", 22.0],
        ["0002", "01", "fam-0225", 16.0],
        ["0002", "02", "fam-0225", 20.0],
        ["0003", "01", "fam-0393", 19.0],
    ]
    assert curation.excluded[["subject", "session"]].to_numpy().tolist() == [["0003", "02"]]


def test_qtim_as_it_is(trees, tmp_path):
    curation = curate("qtim", trees["qtim"])
    assert curation.read["subject"].nunique() == 1202 and curation.read["family"].nunique() == 682
    assert len(curation.table) == 619 and curation.table["subject"].nunique() == 569
    assert everyone_accounted_for(curation) and curation.table["age_years"].notna().all()
    sizes = curation.table.groupby("family")["subject"].nunique()
    assert sizes.max() > 1 and curation.table.groupby("subject")["family"].nunique().max() == 1
    write_curation(curation, tmp_path / "qtim.csv", trees["qtim"])
    load_manifest(tmp_path / "qtim.csv", check_files=False)


# --- ON-Harmony


def test_on_harmony_as_it_is(trees, tmp_path):
    curation = curate("on-harmony", trees["on-harmony"])
    table = curation.table
    assert len(table) == 80 and table["subject"].nunique() == 10 and set(table["role"]) == {"travelling"}
    assert table.groupby("site")["vendor"].unique().map(list).to_dict() == {
        **{"NOT1ACH": ["Philips"], "NOT2ING": ["Philips"], "NOT3GEM": ["GE"]},
        **{"OXF1PRI": ["Siemens"], "OXF2PRI": ["Siemens"], "OXF3TRI": ["Siemens"]},
    }
    assert table.groupby("subject")["site"].nunique().eq(6).all()
    in_ms = table.groupby("repetition_time_kind")["repetition_time_ms"].agg(["min", "max", "size"])
    assert in_ms.loc["inversion"].tolist() == [2000, 2000, 45]
    assert in_ms.loc["excitation", "size"] == 35 and 6.6 < in_ms.loc["excitation", "min"] < 7.3
    assert table["echo_time_ms"].between(1.9, 3.3).all() and table["t1w_sha256"].is_unique
    assert len(curation.excluded) == 10 and everyone_accounted_for(curation)  # phase B, of which there are no files
    write_curation(curation, tmp_path / "on-harmony.csv", trees["on-harmony"])
    load_manifest(tmp_path / "on-harmony.csv", check_files=False)


def test_a_subject_of_one_scanner_only_does_not_travel(tmp_path):
    names = [("1", "NOT1ACH001"), ("1", "OXF1PRI001"), ("2", "OXF1PRI001"), ("2", "OXF1PRI002")]
    write_tree(tmp_path, empty_files(*(f"sub-{n}/ses-{s}/anat/sub-{n}_ses-{s}_T1w.nii.gz" for n, s in names)))
    table = curate("on-harmony", tmp_path).table
    assert table[["site", "role"]].to_numpy().tolist() == [
        ["NOT1ACH", "travelling"],
        ["OXF1PRI", "travelling"],
        ["OXF1PRI", "unassigned"],
        ["OXF1PRI", "unassigned"],
    ]
