"""ABIDE I: the phenotypic table of the preprocessed release, AAL series, and BIDS trees if there are any."""

import re

import pandas as pd

from study_lib.sources.abide_scanners import scanner_facts
from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout, cells_of, once_each, read_people
from study_lib.sources.problems import Problems
from study_lib.sources.series import find_series, with_series
from study_lib.sources.source import Source, Status, scans_of, tables_of
from study_lib.sources.tree import index_tree
from study_lib.sources.values import looked_up

TABLES = ("Phenotypic_V1_0b*.csv",)
LAYOUT = Layout(
    subject=("SUB_ID",),
    site=("SITE_ID",),
    age=("AGE_AT_SCAN",),
    sex=("SEX",),
    sexes={"1": "M", "2": "F"},
    diagnosis=("DX_GROUP",),
    diagnoses={"1": "autism", "2": "control"},
)
SERIES = [
    re.compile(r"[A-Za-z0-9_]+_00(?P<subject>\d{5})_rois_aal\.1D"),  # {FILE_ID}_rois_aal.1D
    re.compile(r"(?P<subject>\d{5})\.mat"),
]
# sub-0050642, or sub-v1s0x0050642 where ABIDE I and II share a tree (v1: ABIDE I).
BIDS_LABEL = re.compile(r"(?:v1s\d+x)?0*(?P<subject>\d{5})")


def build(request: Request) -> Curation:
    """Everyone of the table whose T1w, BOLD or AAL series is under the root."""
    problems = Problems(request.root)
    tables, scanner_tables = tables_of(request, TABLES, "SUB_ID")
    people = once_each(pd.concat([read_people(path, LAYOUT, problems) for path in tables]), problems)
    scans = scans_of(index_tree(request.root), request, problems)
    label = scans["subject"].str.extract(f"^{BIDS_LABEL.pattern}$")["subject"]
    scans["subject"] = label.fillna(scans["subject"])
    people, series = _with_file_ids(people, find_series(request.root, SERIES, problems))
    scans = scanner_facts(with_series(scans, series), people, scanner_tables)
    return curate(people, scans, Policy("abide", site_from=("site",), needs_diagnosis=True), problems)


def _with_file_ids(people: pd.DataFrame, series: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """People with the reason to give where none of their files is found, and the series that may be used.

    `no_filename` marks people of whom the preprocessed release has nothing, mostly for failed quality
    control. A series of theirs that turns up all the same is a stray copy, and is not used; a BIDS tree of
    one's own is.
    """
    file_id = cells_of(people, ["FILE_ID"])
    none = file_id.str.lower() == "no_filename"
    stray = looked_up(people["subject"], series.set_index("subject")["time_series"])
    missing = "no " + file_id + "_rois_aal.1D, " + people["subject"] + ".mat or BIDS files under the data root"
    withdrawn = "FILE_ID is no_filename: the preprocessed release has no data of this subject"
    withdrawn = withdrawn + ("; not used: " + stray).where(stray != "", "")
    people = people.assign(
        absence=missing.where(~none, withdrawn),
        absence_column=none.map({True: "FILE_ID", False: "time_series"}),
    )
    return people, series[~series["subject"].isin(people.loc[none, "subject"])]


SOURCE = Source(
    name="abide",
    title="ABIDE I: Autism Brain Imaging Data Exchange",
    status=Status.VERIFIED,
    evidence="Phenotypic_V1_0b_preprocessed1.csv (1,112 rows), 40 AAL series, one fMRIPrep 25.2 subject",
    build=build,
)
