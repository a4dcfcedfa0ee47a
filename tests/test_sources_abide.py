from pathlib import Path

import pytest
from source_trees import empty_files, unpack, write_tree

from study_lib.manifest import load_manifest
from study_lib.sources import curate, write_curation
from study_lib.sources.abide_scanners import site_acquisitions

TABLE = "Phenotypic_V1_0b_preprocessed1.csv"
# As in the real file: a column without a name, quoted commas, -9999, and both forms of FILE_ID.
ROWS = """,Unnamed: 0,SUB_ID,X,subject,SITE_ID,FILE_ID,DX_GROUP,DSM_IV_TR,AGE_AT_SCAN,SEX,FIQ,COMORBIDITY
0,1,50002,1,50002,PITT,no_filename,1,1,16.77,1,103,
1,2,50003,2,50003,PITT,Pitt_0050003,1,1,24.45,1,-9999,"ADHD, combined"
2,3,50004,3,50004,NYU,NYU_0050004,2,0,19.09,2,113,-9999
3,4,50005,4,50005,NYU,NYU_0050005,2,0,-9999,1,113,
4,5,50006,5,50006,CALTECH,no_filename,2,0,30.1,2,113,
"""
SCANNERS = [
    ["", "CALTEC", "NYU", "PITT", "SBL"],
    ["Vendor", "Siemens", "Siemens", "Siemens", "Phillips"],
    ["TR (sec)", "1.59", "2.53", "", "9.60E-03"],
    ["TE (sec)", "2.73E-03", "3.25E-03", "", "4.60E-03"],
    ["Seq. name", "", "MPRAGE", "MPRAGE", "3D TFE"],
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    series = ["cpac/Pitt_0050003_rois_aal.1D", "mat/50004.mat", "cpac/Caltech_0050006_rois_aal.1D"]
    return write_tree(tmp_path, {TABLE: ROWS, **empty_files(*series)})


def test_series_are_found_by_file_id_and_by_subject(root):
    table = curate("abide", root).table
    assert table[["subject", "site", "diagnosis", "sex", "time_series"]].to_numpy().tolist() == [
        ["50003", "PITT", "autism", "M", "cpac/Pitt_0050003_rois_aal.1D"],
        ["50004", "NYU", "control", "F", "mat/50004.mat"],
    ]


def test_no_filename_excludes_by_name_and_says_so_of_a_stray_series_too(root):
    excluded = curate("abide", root).excluded.set_index("subject")
    assert excluded.loc["50002", ["line", "column", "file"]].tolist() == [2, "FILE_ID", TABLE]
    assert (
        excluded.loc["50002", "reason"]
        == "FILE_ID is no_filename: the preprocessed release has no data of this subject"
    )
    assert excluded.loc["50006", "reason"].endswith("; not used: cpac/Caltech_0050006_rois_aal.1D")
    assert excluded.loc["50005", "reason"].startswith("no NYU_0050005_rois_aal.1D, 50005.mat or BIDS files")


def test_a_bids_tree_is_matched_by_number_and_abide_two_is_left_alone(root):
    anat = "bids/{0}/anat/{0}_T1w.nii.gz"
    labels = ["sub-0050002", "sub-v1s0x0050004", "sub-v2s0x0050005"]
    write_tree(root, empty_files(*(anat.format(label) for label in labels)))
    curation = curate("abide", root)
    paths = curation.table.set_index("subject")["t1w"]
    assert paths["50002"] == anat.format("sub-0050002") and paths["50004"] == anat.format("sub-v1s0x0050004")
    assert "50005" in set(curation.excluded["subject"]) and "v2s0x0050005" in set(curation.excluded["subject"])


def test_one_pipelines_series_are_taken_and_the_others_named(root):
    write_tree(root, empty_files("dparsf/Pitt_0050003_rois_aal.1D"))
    curation = curate("abide", root)
    assert curation.table["time_series"][0] == "cpac/Pitt_0050003_rois_aal.1D"
    assert curation.warnings["reason"].tolist() == [
        "2 files could be the time_series; not used: dparsf/Pitt_0050003_rois_aal.1D"
    ]


def test_a_table_of_scanners_tells_the_vendor_where_sidecars_do_not(root, tmp_path):
    write_tree(tmp_path, {"scanners.tsv": SCANNERS})
    table = curate("abide", root, (root / TABLE, tmp_path / "scanners.tsv")).table.set_index("site")
    assert table.loc["NYU", ["vendor", "sequence"]].tolist() == ["Siemens", "MPRAGE"]
    assert table.loc["NYU", ["repetition_time_ms", "echo_time_ms"]].tolist() == [2530, 3.25]
    assert table.loc["PITT", "repetition_time_kind"] == ""


def test_a_folder_without_the_table_is_an_error_that_says_what_to_give(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no table with a column SUB_ID: expected Phenotypic_V1_0b.*--phenotypic"
    ):
        curate("abide", tmp_path)


def test_the_real_table_has_1112_people_at_20_sites(shared_data, tmp_path):
    curation = curate("abide", shared_data / "abide")
    assert len(curation.read) == 1112 and curation.read["site"].nunique() == 20
    assert curation.read["diagnosis"].value_counts().to_dict() == {"control": 573, "autism": 539}
    assert set(curation.read["sex"]) == {"F", "M"} and curation.read["age_years"].between(6, 65).all()
    without_data = curation.excluded[curation.excluded["column"] == "FILE_ID"]
    assert len(without_data) == 77 and without_data["reason"].str.startswith("FILE_ID is no_filename").all()
    # Every series of the folder but one, which failed quality control and circulates all the same.
    assert len(curation.table) == 39 and "51475" in set(without_data["subject"])
    assert set(curation.read["subject"]) == set(curation.table["subject"]) | set(curation.excluded["subject"])
    write_curation(curation, tmp_path / "abide.csv", shared_data / "abide")
    assert len(load_manifest(tmp_path / "abide.csv", check_files=False).table) == 39


def test_the_real_fmriprep_subject_is_found_in_the_real_table(shared_data, tmp_path):
    root = unpack(shared_data / "fmriprep/abide_sub-v1s0x0050642_fmriprep25.2.4.tar.gz", tmp_path)
    table = curate("abide", root, (shared_data / "abide/phenotypic" / TABLE,)).table
    assert table[["subject", "session", "site", "diagnosis", "age_years"]].to_numpy().tolist() == [
        ["50642", "1", "CMU", "autism", 33.0]
    ]
    assert (table[["t1w", "t1w_mask", "bold", "confounds"]] != "").all(axis=None)


def test_the_real_scanner_table_has_both_conventions_in_one_unit(shared_data):
    sites = site_acquisitions(shared_data / "morphometry/mriqc/abide_scan_parameters.tsv")
    assert sites["vendor"].drop("DS030").value_counts().to_dict() == {"Siemens": 11, "Philips": 5, "GE": 4}
    assert sites.loc["CALTECH", "repetition_time_kind"] == "inversion"
    assert sites.loc["LEUVEN_1", ["repetition_time_ms", "repetition_time_kind", "sequence"]].tolist() == [
        *(9.6, "excitation", "TFE"),
    ]
