"""Facts that change between sessions, from BIDS' sessions.tsv: age, site and diagnosis."""

import csv
import io
from pathlib import Path

import pandas as pd

from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.tables import column, find_column
from study_lib.sources.values import ages, is_missing, words


def at_each_session(people: pd.DataFrame, scans: pd.DataFrame, files: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """People once per scanned session, with what sessions.tsv says in place of participants.tsv."""
    facts = session_facts(files, problems)
    if facts.empty or people.empty or (people["session"] != "").any():
        return people
    sessions = scans[["subject", "session"]].drop_duplicates()
    spread = people.drop(columns="session").merge(sessions, on="subject", how="left").fillna({"session": ""})
    found = spread[["subject", "session"]].merge(facts, on=["subject", "session"], how="left")
    known_age, known_site = found["age_years"].notna(), found["site"].fillna("") != ""
    known_diagnosis = found["diagnosis"].fillna("") != ""
    return spread.assign(
        age_years=found["age_years"].where(known_age, spread["age_years"]),
        site=found["site"].where(known_site, spread["site"]),
        diagnosis=found["diagnosis"].where(known_diagnosis, spread["diagnosis"]),
    )


def session_facts(files: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Age, site and diagnosis of each session that a sessions.tsv tells of; one row per session."""
    listed = files[(files["suffix"] == "sessions") & ~files["derived"]]
    records = [
        {**row, "_subject": file.sub, "_file": file.path}
        for file in listed.itertuples()
        for row in _rows(problems.root / file.path)
    ]
    table = pd.DataFrame(records, dtype=str).fillna("")
    layout = Layout()
    told = [names for names in (layout.age, layout.site, layout.diagnosis) if find_column(table, names)]
    if not told:
        return pd.DataFrame(columns=["subject", "session", "age_years", "site", "diagnosis"])
    years, bad_age = ages(column(table, layout.age))
    site = column(table, layout.site)
    diagnosis, bad_diagnosis = words(column(table, layout.diagnosis), layout.diagnoses)
    session = column(table, layout.session).str.removeprefix("ses-")
    for name, bad in (("age_years", bad_age), ("diagnosis", bad_diagnosis)):
        for subject, visit, file in zip(table["_subject"][bad], session[bad], table["_file"][bad], strict=True):
            reason = f"sessions.tsv has a {name} that cannot be read: that of participants.tsv is kept"
            place = {"session": visit, "column": name, "file": file}
            problems.warn(subject, reason, "correct the cell or write n/a", **place)
    site = site.mask(is_missing(site), "")
    facts = {"subject": table["_subject"], "session": session, "age_years": years, "site": site}
    return pd.DataFrame({**facts, "diagnosis": diagnosis}).drop_duplicates(["subject", "session"])


def _rows(path: Path) -> list[dict[str, str]]:
    """A small table without the cost of a data frame: there is one for each of thousands of subjects."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []  # not fetched; participants.tsv stands
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
    return [{key.strip(): (cell or "").strip() for key, cell in row.items() if key} for row in rows]
