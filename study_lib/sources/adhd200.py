"""ADHD-200: phenotypic tables of the sites and the test set, Athena's AAL series, and BIDS trees per site."""

import re
from pathlib import Path

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout, cells_of, exclude_person, people_of
from study_lib.sources.problems import Problems
from study_lib.sources.series import find_series, with_series
from study_lib.sources.source import Source, Status, scans_of
from study_lib.sources.tables import find_tables, read_table
from study_lib.sources.tree import index_tree
from study_lib.sources.values import DIAGNOSIS_WORDS, SEX_WORDS

TABLES = ("*phenotypic*.csv",)
# The codes of the phenotypic key; the words are those of the sites' participants.tsv.
DIAGNOSES = {
    **DIAGNOSIS_WORDS,
    **{"0": "control", "1": "adhd_combined", "2": "adhd_hyperactive", "3": "adhd_inattentive"},
    **{"Typically Developing Children": "control", "ADHD-Combined": "adhd_combined"},
    **{"ADHD-Hyperactive/Impulsive": "adhd_hyperactive", "ADHD-Inattentive": "adhd_inattentive"},
}
SITES = {
    **{"1": "Peking", "2": "Brown", "3": "KKI", "4": "NeuroIMAGE"},
    **{"5": "NYU", "6": "OHSU", "7": "Pittsburgh", "8": "WashU"},
}
LAYOUT = Layout(
    subject=("ScanDir ID", "ScanDirID", "ID", "participant_id"),
    sexes={**SEX_WORDS, "0": "F", "1": "M"},
    diagnosis=("DX",),
    diagnoses=DIAGNOSES,
)
# Athena's band-passed series before the others.
SERIES = [
    re.compile(r"sfnwmrda0*(?P<subject>\d+)_session_\d+_rest_\d+_aal_TCs\.1D"),
    re.compile(r"snwmrda0*(?P<subject>\d+)_session_\d+_rest_\d+_aal_TCs\.1D"),
]
DOUBTFUL = {"QC_Anatomical_1": "t1w", "QC_Rest_1": "bold"}


def build(request: Request) -> Curation:
    """Everyone with a diagnosis and a T1w, BOLD or AAL series; `pending` and `withheld` exclude by name."""
    problems = Problems(request.root)
    people = _people(request, problems)
    scans = scans_of(index_tree(request.root), request, problems)
    scans["subject"] = scans["subject"].str.lstrip("0")
    scans = with_series(scans, find_series(request.root, SERIES, problems))
    _warn_of_doubtful_scans(people[people["subject"].isin(scans["subject"])], problems)
    # A folder per scanner (Peking_1) says more than the table's code for the city.
    policy = Policy("adhd200", site_from=("group", "site"), needs_diagnosis=True)
    return curate(people, scans, policy, problems)


def _people(request: Request, problems: Problems) -> pd.DataFrame:
    paths = list(request.phenotypic) or [
        *find_tables(request.root, TABLES),
        *find_tables(request.root, ["participants.tsv"], depth=1),
    ]
    if not paths:
        message = f"no phenotypic table of ADHD-200 under {request.root}: expected *phenotypic*.csv"
        raise FileNotFoundError(f"{message} or participants.tsv in the sites' folders; give it with --phenotypic")
    people = pd.concat([_read(path, problems) for path in paths], ignore_index=True)
    return _one_diagnosis_each(people, problems)


def _read(path: Path, problems: Problems) -> pd.DataFrame:
    people = people_of(read_table(path), path, LAYOUT, problems)
    site = people["site"].str.removesuffix(".0").map(lambda code: SITES.get(code, code))
    return people.assign(subject=people["subject"].str.lstrip("0"), site=site)


def _one_diagnosis_each(people: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """One row per subject of several tables: a known diagnosis comes first, two different ones exclude.

    The test set's diagnoses were withheld in the first tables and released in a later one, and some tables
    list their subjects twice.
    """
    known = people[people["diagnosis"] != "unknown"]
    several = known.groupby("subject")["diagnosis"].nunique()
    contradictory = people["subject"].isin(several.index[several > 1])
    for person in people[contradictory].itertuples():
        others = sorted(set(known.loc[known["subject"] == person.subject, "diagnosis"]) - {person.diagnosis})
        reason = f"diagnosis is {person.diagnosis} here and {', '.join(others)} in another row"
        exclude_person(person, problems, "diagnosis", reason, "give only the table that is right")
    order = (people["diagnosis"] == "unknown").sort_values(kind="stable").index
    single = people.loc[order][~contradictory[order]].drop_duplicates("subject")
    return single.sort_index().reset_index(drop=True)


def _warn_of_doubtful_scans(people: pd.DataFrame, problems: Problems) -> None:
    for name, column in DOUBTFUL.items():
        for person in people[cells_of(people, [name]) == "0"].itertuples():
            place = {"line": person.line, "column": column, "file": Path(person.file)}
            problems.warn(person.subject, f"{name} is 0: questionable", "look at the scan before using it", **place)


SOURCE = Source(
    name="adhd200",
    title="ADHD-200",
    status=Status.VERIFIED,
    evidence="allSubs_testSet_phenotypic_dx.csv (197 rows); series and trees from documentation",
    build=build,
)
