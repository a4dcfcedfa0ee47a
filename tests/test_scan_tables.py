"""Region series and confounds whose file is not what its name says."""

import numpy as np
import pandas as pd
import pytest

from study_lib.manifest import load_manifest, write_manifest
from study_lib.scan_checks.table import check_table

GOOD = {
    "named.tsv": "a\tb\n1\t2\n3\t4\n5\t6\n",
    "confounds.tsv": "csf\tdvars\n1.5\tn/a\n2.5\t0.1\n3\t0.2\n",
    "plain.csv": "1,2\n3,4\n5,6\n",
    "rois_aal.1D": "#2001\t#2002\n1.0\t2.0\n3.0\t4.0\n5.0\t6.0\n",
}
BAD = {
    "page.tsv": "<html>\n<body>Not found</body>\n</html>\n",
    "missing.tsv": "a\tb\nn/a\tn/a\nn/a\tn/a\nn/a\tn/a\n",
    "word.tsv": "garbage",
    "cut.tsv": "a\tb\tc\n1\t2\t3\n4\t5\t6\n7\t",
    "header_only.tsv": "a\tb\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_table_of_numbers_passes_with_and_without_header_and_missing_values(name):
    assert check_table(name, GOOD[name].encode()) == []


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_of_numbers_is_named_with_the_fix(name):
    (finding,) = check_table(name, BAD[name].encode())
    assert finding.is_error
    assert name in finding.message
    assert finding.fix


def test_bytes_that_are_no_text_are_no_table():
    assert check_table("series.tsv", b"\xff\xfe\x00\x01\x80")[0].message == "series.tsv is no text"


def test_formats_that_only_their_reader_knows_are_left_to_it():
    assert check_table("series.mat", b"\xff\xfe") == []


def test_a_subject_whose_series_is_a_web_page_is_excluded_and_the_others_go_on(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("good", "bad"):
        np.savetxt(tmp_path / f"{name}.tsv", rng.normal(size=(30, 4)), delimiter="\t", header="a\tb\tc\td", comments="")
    (tmp_path / "bad.tsv").write_text(BAD["page.tsv"])
    columns = {"family": "", "cohort": "abide", "site": "NYU", "diagnosis": "control", "role": "unassigned"}
    rows = [{**columns, "subject": n, "family": n, "time_series": f"{n}.tsv"} for n in ("good", "bad")]
    write_manifest(pd.DataFrame(rows), tmp_path / "m.csv", tmp_path)
    cohort = load_manifest(tmp_path / "m.csv")
    assert cohort.table["subject"].tolist() == ["good"]
    excluded = cohort.excluded.iloc[0]
    assert (excluded["subject"], excluded["column"]) == ("bad", "time_series")
    assert "does not hold rows of numbers" in excluded["reason"] or "rows of values" in excluded["reason"]
