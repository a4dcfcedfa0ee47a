"""HBN, HCP, SRPBS, ADNI and the private sites: layouts as their documentation describes them."""

import itertools
import random

import pandas as pd
import pytest
from source_trees import empty_files, write_tree

from study_lib.sources import curate
from study_lib.sources.families import families
from study_lib.sources.people import read_people
from study_lib.sources.problems import Problems

# --- HBN


def test_hbn_reads_one_bids_data_set_per_site(tmp_path):
    people = [["participant_id", "release_number", "sex", "age"], ["sub-NDARAC904DMU", "R1", "F", "11.3386"]]
    anat = "site-{0}/sub-{1}/anat/sub-{1}_acq-{2}_T1w.nii.gz"
    scans = [anat.format("RU", "NDARAC904DMU", "HCP"), anat.format("RU", "NDARAC904DMU", "VNav")]
    scans += [anat.format("CBIC", "NDARAG143ARJ", "HCP")]
    write_tree(tmp_path, {"site-RU/participants.tsv": people, **empty_files(*scans)})
    curation = curate("hbn", tmp_path)
    assert curation.table[["subject", "site", "role", "age_years", "t1w"]].fillna(0).to_numpy().tolist() == [
        ["NDARAC904DMU", "RU", "pre-training", 11.3386, scans[0]],
        ["NDARAG143ARJ", "CBIC", "pre-training", 0, scans[2]],
    ]
    assert any("not used: " + scans[1] in reason for reason in curation.warnings["reason"])


def test_hbn_reads_the_release_table_with_its_codes_for_sex(tmp_path):
    table = "EID,Sex,Age,EHQ_Total\nNDARAA075AMK,1,6.7289,100\nNDARAA112DMH,0,5.5454,80\n"
    scans = [f"site-SI/sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in ("NDARAA075AMK", "NDARAA112DMH")]
    write_tree(tmp_path, {"HBN_R1_1_Pheno.csv": table, **empty_files(*scans)})
    found = curate("hbn", tmp_path, (tmp_path / "HBN_R1_1_Pheno.csv",)).table
    assert found[["sex", "age_years", "site"]].to_numpy().tolist() == [["F", 6.7289, "SI"], ["M", 5.5454, "SI"]]


def test_the_real_participants_of_the_eeg_release(shared_data):
    from study_lib.sources.hbn import LAYOUT

    path = shared_data / "participants/ds005505_hbn_eeg_r1/participants.tsv"
    problems = Problems(path.parent)
    people = read_people(path, LAYOUT, problems)
    assert len(people) == 136 and problems.excluded == problems.warnings == []
    assert people["subject"].str.fullmatch(r"NDAR[A-Z0-9]{8}").all() and people["age_years"].between(5, 22).all()
    assert people["sex"].value_counts().to_dict() == {"M": 90, "F": 46}


# --- HCP


UNRESTRICTED = "Subject,Release,Gender,Age\n100206,S900,M,26-30\n100307,Q1,F,26-30\n100408,Q3,M,36+\n"
RESTRICTED = (
    "Subject,Age_in_Yrs,ZygosityGT,Family_ID,Mother_ID,Father_ID\n"
    "100206,27, ,56037_85858,56037,85858\n100307,27,MZ,51488_81352,51488,81352\n100408,33,MZ,51488_99999,51488,99999\n"
)
T1W, MASK = "T1w/T1w_acpc_dc_restore.nii.gz", "T1w/brainmask_fs.nii.gz"
CLEAN = "MNINonLinear/Results/rfMRI_REST1_LR/rfMRI_REST1_LR_hp2000_clean.nii.gz"


@pytest.fixture
def hcp(tmp_path):
    raw = "100408/unprocessed/3T/T1w_MPR1/100408_3T_T1w_MPR1.nii.gz"
    files = empty_files(f"100206/{T1W}", f"100206/{MASK}", f"100206/{CLEAN}", f"100307/{T1W}", raw)
    return write_tree(tmp_path, {"unrestricted_me_1_1_2020.csv": UNRESTRICTED, **files})


def test_hcps_own_folders_are_read(hcp):
    table = curate("hcp", hcp).table.set_index("subject")
    assert table.loc["100206", ["t1w", "t1w_mask", "bold"]].tolist() == [f"100206/{p}" for p in (T1W, MASK, CLEAN)]
    assert table.loc["100408", ["t1w", "t1w_mask"]].tolist() == [
        *("100408/unprocessed/3T/T1w_MPR1/100408_3T_T1w_MPR1.nii.gz", ""),
    ]
    assert table["age_years"].tolist() == [28.0, 28.0, 36.0] and set(table["site"]) == {"HCP"}


def test_without_the_restricted_table_hcps_families_are_not_known_and_that_is_said(hcp):
    curation = curate("hcp", hcp)
    assert curation.table["family"].tolist() == curation.table["subject"].tolist()
    assert "twins and siblings may come apart" in curation.warnings["reason"].str.cat()


@pytest.mark.parametrize("first", [0, 1])
def test_half_siblings_of_hcp_are_one_family_whatever_the_order_of_the_tables(hcp, first):
    write_tree(hcp, {"RESTRICTED_me_1_1_2020.csv": RESTRICTED})
    paths = [hcp / "unrestricted_me_1_1_2020.csv", hcp / "RESTRICTED_me_1_1_2020.csv"]
    curation = curate("hcp", hcp, tuple(paths[::-1] if first else paths))
    table = curation.table.set_index("subject")
    assert table["family"].to_dict() == {"100206": "100206", "100307": "100307", "100408": "100307"}
    assert table["age_years"].tolist() == [27, 27, 33] and table["sex"].tolist() == ["M", "F", "M"]
    assert curation.warnings.empty


def test_families_agree_with_a_search_by_hand():
    random_links = random.Random(3)
    for size in (1, 5, 30):
        subjects = pd.Series([f"s{n}" for n in range(size)], index=range(10, 10 + size))
        links = [
            pd.Series([random_links.choice(["", *"abcdefghijkl"]) for _ in range(size)], index=subjects.index)
            for _ in range(2)
        ]
        group = {index: {index} for index in subjects.index}
        for _ in range(size):
            for a, b in itertools.combinations(subjects.index, 2):
                if any(link[a] == link[b] != "" for link in links):
                    merged = group[a] | group[b]
                    for member in merged:
                        group[member] = merged
        expected = [subjects[min(group[index])] for index in subjects.index]
        assert families(subjects, links).tolist() == expected


# --- SRPBS


SRPBS = [
    ["participant_id", "protocol", "site", "diag", "age", "sex", "hand"],
    ["sub-0001", "1", "SWA", "0", "31", "1", "1"],
    ["sub-0002", "2", "KUT", "4", "44", "2", "1"],
    ["sub-0003", "2", "KUT", "99", "29", "2", "1"],
    ["sub-0004", "2", "KUT", "n/a", "29", "2", "1"],
]


def test_srpbs_is_read_as_downloaded(tmp_path):
    scans = [f"data/sub-000{n}/t1/defaced_mprage.nii" for n in (1, 2, 3, 4)]
    volumes = [f"data/sub-0001/rsfmri/vol_{n:03d}" for n in range(3)]
    curation = curate("srpbs", write_tree(tmp_path, {"participants.tsv": SRPBS, **empty_files(*scans, *volumes)}))
    assert curation.table[["subject", "site", "sex", "diagnosis", "t1w"]].to_numpy().tolist() == [
        ["0001", "SWA", "M", "control", scans[0]],
        ["0002", "KUT", "F", "schizophrenia", scans[1]],
        ["0003", "KUT", "F", "other", scans[2]],
    ]
    assert curation.excluded["subject"].tolist() == ["0004"]
    assert curation.warnings["column"].tolist() == ["bold"]


def test_srpbs_is_read_as_bids_with_fmriprep(tmp_path):
    func = "derivatives/fmriprep/sub-0002/func/sub-0002_task-rest"
    files = ["sub-0002/anat/sub-0002_T1w.nii.gz", f"{func}_desc-confounds_timeseries.tsv"]
    files += [f"{func}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"]
    table = curate("srpbs", write_tree(tmp_path, {"participants.tsv": SRPBS, **empty_files(*files)})).table
    assert table[["subject", "t1w", "bold"]].to_numpy().tolist() == [["0002", files[0], files[2]]]


# --- ADNI


ADNIMERGE = (
    '"RID","PTID","VISCODE","SITE","DX_bl","AGE","PTGENDER","DX"\n'
    '"2","011_S_0002","bl","11","CN","74.3","Male","CN"\n"2","011_S_0002","m06","11","CN","74.3","Male","MCI"\n'
    '"3","011_S_0003","bl","11","AD","81.3","Female","Dementia"\n'
    '"4","022_S_0004","bl","22","LMCI","67.5","Male","MCI"\n'
)
GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "MagneticFieldStrength": 1.5, "RepetitionTime": 0.0092}


def adni(root, sessions):
    files = {"ADNIMERGE.csv": ADNIMERGE}
    for subject, session in sessions:
        stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_T1w"
        files |= {f"{stem}.nii.gz": stem, f"{stem}.json": GE}
    return write_tree(root, files)


@pytest.mark.parametrize(("baseline", "later"), [("M000", "M006"), ("M00", "M06"), ("bl", "m06")])
def test_adni_has_the_diagnosis_and_the_age_of_each_visit(tmp_path, baseline, later):
    root = adni(tmp_path, [("ADNI011S0002", baseline), ("ADNI011S0002", later), ("ADNI011S0003", baseline)])
    curation = curate("adni", root)
    rows = curation.table[["subject", "diagnosis", "age_years", "sex", "site"]].to_numpy().tolist()
    assert sorted(rows) == [
        ["011S0002", "control", 74.3, "M", "ADNI"],
        ["011S0002", "mci", 74.8, "M", "ADNI"],
        ["011S0003", "dementia", 81.3, "F", "ADNI"],
    ]
    assert curation.excluded["subject"].tolist() == ["022S0004"] and curation.warnings.empty


def test_an_adni_visit_that_the_table_lacks_has_the_baseline_diagnosis_and_a_warning(tmp_path):
    curation = curate("adni", adni(tmp_path, [("ADNI011S0003", "M012")]))
    assert curation.table[["diagnosis", "age_years"]].to_numpy().tolist() == [["dementia", 82.3]]
    assert curation.warnings["reason"].tolist() == ["no such visit in the table: the diagnosis is that at baseline"]


def test_an_adni_scan_of_another_vendor_is_named(tmp_path):
    root = adni(tmp_path, [("011S0003", "M000")])
    write_tree(root, {"sub-011S0003/ses-M000/anat/sub-011S0003_ses-M000_T1w.json": GE | {"Manufacturer": "SIEMENS"}})
    warnings = curate("adni", root).warnings
    assert warnings["reason"].tolist() == ["not the study's protocol: vendor is Siemens, not GE"]


# --- private sites


@pytest.mark.parametrize(
    ("name", "vendor", "tesla", "echo_ms", "repetition_ms", "kind"),
    [
        ("smc", "Philips", 3.0, 4.6, 9.9, "excitation"),
        ("gsev", "GE", 1.5, None, None, ""),  # the study gives a range, which fits no single scan
        ("gmc", "Siemens", 3.0, 2.9, 1900, "inversion"),
    ],
)
def test_the_studys_table_fills_in_what_sidecars_do_not_say(
    tmp_path, name, vendor, tesla, echo_ms, repetition_ms, kind
):
    write_tree(tmp_path, empty_files("sub-1/anat/sub-1_T1w.nii.gz"))
    row = curate(name, tmp_path).table.iloc[0]
    assert [row["cohort"], row["site"], row["vendor"], row["field_strength_t"]] == [name, name.upper(), vendor, tesla]
    assert [None if pd.isna(row[c]) else row[c] for c in ("echo_time_ms", "repetition_time_ms")] == [
        echo_ms,
        repetition_ms,
    ]
    assert row["repetition_time_kind"] == kind


def test_a_scan_of_another_vendor_gets_nothing_of_the_studys_table_and_is_named(tmp_path):
    sidecar = {"Manufacturer": "GE", "RepetitionTime": 0.4}
    write_tree(tmp_path, {"sub-1/anat/sub-1_T1w.json": sidecar, **empty_files("sub-1/anat/sub-1_T1w.nii.gz")})
    curation = curate("gmc", tmp_path)
    row = curation.table.iloc[0]
    assert [row["vendor"], row["repetition_time_ms"], row["repetition_time_kind"]] == ["GE", 400, ""]
    assert pd.isna(row["echo_time_ms"])
    assert "not the study's protocol: vendor is GE, not Siemens" in set(curation.warnings["reason"])


def test_a_sidecar_comes_before_the_studys_table(tmp_path):
    sidecar = {"Manufacturer": "Philips", "EchoTime": 0.0044, "InstitutionName": "SMC"}
    write_tree(tmp_path, {"sub-1/anat/sub-1_T1w.json": sidecar, **empty_files("sub-1/anat/sub-1_T1w.nii.gz")})
    row = curate("smc", tmp_path).table.iloc[0]
    assert [row["echo_time_ms"], row["repetition_time_ms"]] == [4.4, 9.9]
