import pytest
from source_trees import empty_files, write_tree

from study_lib.sources import curate

HEADER = "Disclaimer,ID,Site,Gender,Age,Handedness,DX,Secondary Dx ,Full2 IQ,QC_Rest_1,QC_Anatomical_1\n"
TEST_SET = HEADER + (
    ",1038415,1,1,14.92,1,3,ODD,-999,1,1\n"
    "This data requires permission to use.,26001,2,0,13.08,N/A,pending,pending,N/A,1,1\n"
    ",20001,3,1,9.5,1,0,N/A,-999,1,0\n"
    ",20002,3,1,9.5,1,2,N/A,-999,1,1\n"
)
# A site's own table: another name for the id, blanks, diagnoses withheld before they were released.
SITE = "ScanDir ID,Site,Gender,Age,DX\n1038415,1,1,14.92,withheld\n10001,5 ,0,8.1,1\n10001,5 ,0,8.1,1\n"
SERIES = [
    "aal/NYU/0010001/sfnwmrda0010001_session_1_rest_1_aal_TCs.1D",
    "aal/NYU/0010001/snwmrda0010001_session_1_rest_1_aal_TCs.1D",
    "aal/KKI/0020001/sfnwmrda0020001_session_1_rest_1_aal_TCs.1D",
    "aal/Brown/0026001/sfnwmrda0026001_session_1_rest_1_aal_TCs.1D",
]


@pytest.fixture
def root(tmp_path):
    tables = {"allSubs_testSet_phenotypic_dx.csv": TEST_SET, "NYU_phenotypic.csv": SITE}
    t1w = "RawDataBIDS/Peking_1/sub-1038415/ses-1/anat/sub-1038415_ses-1_T1w.nii.gz"
    return write_tree(tmp_path, {**tables, **empty_files(*SERIES, t1w)})


def test_codes_ids_and_sites_are_read_and_series_found(root):
    table = curate("adhd200", root).table
    assert table[["subject", "site", "sex", "diagnosis", "time_series"]].to_numpy().tolist() == [
        ["10001", "NYU", "F", "adhd_combined", SERIES[0]],
        ["20001", "KKI", "M", "control", SERIES[2]],
    ]


def test_pending_diagnoses_are_excluded_by_name(root):
    excluded = curate("adhd200", root).excluded.set_index("subject")
    assert excluded.loc["26001", ["line", "column"]].tolist() == [3, "diagnosis"]
    assert excluded.loc["26001", "reason"].startswith("diagnosis is 'pending'")
    assert excluded.loc["20002", "reason"].startswith("listed, but no T1w")


def test_a_released_diagnosis_comes_before_a_withheld_one(root):
    read = curate("adhd200", root).read.set_index("subject")["diagnosis"]
    assert read["1038415"] == "adhd_inattentive" and read.index.is_unique


def test_a_bids_tree_per_scanner_names_the_site_and_its_zeros_do_not_matter(root):
    table = curate("adhd200", root / "RawDataBIDS", (root / "allSubs_testSet_phenotypic_dx.csv",)).table
    assert table[["subject", "session", "site"]].to_numpy().tolist() == [["1038415", "1", "Peking_1"]]


def test_two_diagnoses_of_one_subject_exclude_it(root):
    write_tree(root, {"KKI_phenotypic.csv": "ScanDir ID,Site,DX\n20001,3,1\n"})
    curation = curate("adhd200", root)
    assert "20001" not in set(curation.table["subject"])
    reasons = curation.excluded.loc[curation.excluded["subject"] == "20001", "reason"].tolist()
    assert "diagnosis is control here and adhd_combined in another row" in reasons


def test_questionable_scans_are_kept_with_a_warning(root):
    warnings = curate("adhd200", root).warnings
    told = warnings.loc[warnings["reason"].str.startswith("QC_"), ["subject", "column"]]
    assert told.to_numpy().tolist() == [["20001", "t1w"]]


def test_words_of_the_sites_own_participants_tsv_are_known(tmp_path):
    people = [
        ["participant_id", "gender", "age", "dx"],
        ["sub-0010128", "Female", "11.7", "ADHD-Hyperactive/Impulsive"],
    ]
    t1w = "NYU/sub-0010128/ses-1/anat/sub-0010128_ses-1_T1w.nii.gz"
    write_tree(tmp_path, {"NYU/participants.tsv": people, **empty_files(t1w)})
    row = curate("adhd200", tmp_path).table.iloc[0]
    assert [row["subject"], row["site"], row["sex"], row["diagnosis"]] == ["10128", "NYU", "F", "adhd_hyperactive"]


def test_the_real_test_set(shared_data):
    folder = shared_data / "participants/adhd200"
    curation = curate("adhd200", folder)
    assert curation.read["diagnosis"].value_counts().to_dict() == {
        **{"control": 94, "adhd_combined": 50, "adhd_inattentive": 32, "adhd_hyperactive": 17, "unknown": 4},
    }
    assert curation.read["site"].value_counts().to_dict() == {
        **{"Peking": 51, "NYU": 41, "OHSU": 34, "Brown": 26, "NeuroIMAGE": 25, "KKI": 11, "Pittsburgh": 9},
    }
    pending = curation.excluded[curation.excluded["reason"].str.startswith("diagnosis is 'pending'")]
    assert len(pending) == 4 and len(curation.excluded) == 197 and curation.table.empty
