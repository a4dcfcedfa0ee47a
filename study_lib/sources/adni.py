"""ADNI: a BIDS tree (as clinica's converter names it) and ADNIMERGE.csv."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout, once_each, people_of
from study_lib.sources.problems import Problems
from study_lib.sources.protocols import PROTOCOLS, warn_of_deviations
from study_lib.sources.sessions import at_each_session
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tables import column, find_tables, read_table
from study_lib.sources.tree import index_tree
from study_lib.sources.values import DIAGNOSIS_WORDS

TABLES = ("ADNIMERGE*.csv",)
DIAGNOSES = {
    **DIAGNOSIS_WORDS,  # CN, EMCI, LMCI, MCI, AD and Dementia are among them
    **{"NL": "control", "SMC": "subjective_memory"},
    # Older tables write a change since the last visit.
    **{"NL to MCI": "mci", "MCI to NL": "control", "MCI to Dementia": "dementia"},
    **{"Dementia to MCI": "mci", "NL to Dementia": "dementia"},
}
VISIT = Layout(
    subject=("PTID",),
    age=("AGE",),
    sex=("PTGENDER",),
    diagnosis=("DX",),
    diagnoses=DIAGNOSES,
    site=(),
    session=(),
    family=(),
)
BASELINE = replace(VISIT, diagnosis=("DX_bl", "DX"))
MONTHS = 12


def build(request: Request) -> Curation:
    """Diagnosis and age at each visit; the diagnosis at baseline, said so, where the visit is not listed."""
    problems = Problems(request.root)
    files = index_tree(request.root)
    scans = scans_of(files, request, problems)
    scans["subject"] = plain_id(scans["subject"])
    warn_of_deviations(scans, PROTOCOLS["adni"], problems)
    # The deck treats ADNI as one site. Its protocol is not written into silent rows: ADNI has others as well.
    policy = Policy("adni", site_from=(), site="ADNI")
    paths = list(request.phenotypic) or find_tables(request.root, TABLES, depth=1)
    if not paths:
        people = participants(request, Layout(diagnoses=DIAGNOSES), problems)
        people["subject"] = plain_id(people["subject"])
        return curate(at_each_session(people, scans, files, problems), scans, policy, problems)
    return curate(_visits(paths[0], scans, problems), scans, policy, problems)


def plain_id(subject: pd.Series) -> pd.Series:
    """One form for the id's spellings: 002_S_0295 in tables, ADNI002S0295 in BIDS trees, 002S0295 here."""
    return subject.str.replace("_", "").str.removeprefix("ADNI")


def months(visit: pd.Series) -> pd.Series:
    """Months since baseline from a visit's code or a session's label: bl, m06, M006, 12; NaN for others."""
    text = visit.str.lower().replace({"bl": "0", "": "0", "sc": "0"})
    return pd.to_numeric(text.str.extract(r"^m?(\d+)$")[0], errors="coerce")


def _visits(path: Path, scans: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """People once per scanned session, and those without a scan once."""
    table = read_table(path)
    first_rows = table[~column(table, ["PTID"]).duplicated()]
    people = once_each(people_of(first_rows, path, BASELINE, problems), problems)
    visits = people_of(table, path, VISIT, problems)
    visits["month"] = visits["line"].map(months(column(table, ["VISCODE"])))
    people["subject"], visits["subject"] = plain_id(people["subject"]), plain_id(visits["subject"])
    told = visits.drop_duplicates(["subject", "month"])[["subject", "month", "diagnosis", "line"]]
    scanned = scans[["subject", "session"]].drop_duplicates()
    scanned = scanned.assign(month=months(scanned["session"])).merge(
        told.rename(columns={"diagnosis": "told", "line": "told_line"}), on=["subject", "month"], how="left"
    )
    spread = people.drop(columns="session").merge(scanned, on="subject", how="left")
    _warn_of_unlisted_visits(spread, problems)
    is_told = spread["told_line"].notna() & (spread["told"] != "unknown")
    return spread.assign(
        session=spread["session"].fillna(""),
        diagnosis=spread["told"].where(is_told, spread["diagnosis"]),
        line=spread["told_line"].fillna(spread["line"]).astype(int),
        age_years=spread["age_years"] + spread["month"].fillna(0) / MONTHS,  # AGE is the age at baseline
    ).drop(columns=["month", "told", "told_line"])


def _warn_of_unlisted_visits(spread: pd.DataFrame, problems: Problems) -> None:
    unlisted = spread["session"].notna() & spread["told_line"].isna()
    for person in spread[unlisted].itertuples():
        place = {"line": person.line, "session": person.session, "column": "diagnosis", "file": Path(person.file)}
        reason = "no such visit in the table: the diagnosis is that at baseline"
        problems.warn(person.subject, reason, "look the visit up in ADNI's diagnosis table", **place)


SOURCE = Source(
    name="adni",
    title="ADNI: Alzheimer's Disease Neuroimaging Initiative",
    status=Status.DOCUMENTATION,
    evidence="ADNIMERGE's columns as its dictionary names them, and clinica's names for the BIDS tree",
    build=build,
)
