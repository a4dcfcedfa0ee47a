"""Who is in a data set, read from its phenotypic tables into the manifest's terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from study_lib.manifest import DIAGNOSES, ROLES
from study_lib.sources.problems import Problems
from study_lib.sources.tables import column, find_column, read_table
from study_lib.sources.values import DIAGNOSIS_WORDS, OLDEST, SEX_WORDS, ages, is_missing, words

PERSON = ("subject", "session", "family", "cohort", "site", "age_years", "sex", "diagnosis", "role")
# Beside the facts: the site's folder, the diagnosis as written, where the row stands, and what the table
# itself says of missing data (`absence`, the reason to give where no scan is found, and the column that says
# so).
PEOPLE_COLUMNS = (*PERSON, "group", "diagnosis_text", "line", "file", "absence", "absence_column")


@dataclass(frozen=True)
class Layout:
    """How a table spells its columns (the first found counts, case and spacing do not) and its codes."""

    subject: Sequence[str] = ("participant_id", "subject_id", "subject")
    session: Sequence[str] = ("session_id", "session")
    family: Sequence[str] = ("family_id", "family")
    cohort: Sequence[str] = ("cohort",)
    site: Sequence[str] = ("site",)
    age: Sequence[str] = ("age", "age_years", "age_at_scan", "age_at_first_scan_years")
    sex: Sequence[str] = ("sex", "gender")
    diagnosis: Sequence[str] = ("diagnosis", "dx")
    role: Sequence[str] = ("role",)
    sexes: Mapping[str, str] = field(default_factory=lambda: SEX_WORDS)
    diagnoses: Mapping[str, str] = field(default_factory=lambda: DIAGNOSIS_WORDS)


def read_people(path: Path, layout: Layout, problems: Problems, group: str = "") -> pd.DataFrame:
    """The people of one table, with PEOPLE_COLUMNS; rows that cannot be used are excluded by name."""
    return once_each(people_of(read_table(path), path, layout, problems, group), problems)


def people_of(table: pd.DataFrame, path: Path, layout: Layout, problems: Problems, group: str = "") -> pd.DataFrame:
    """One row per usable row of a table of strings indexed by line."""
    if find_column(table, layout.subject) is None:
        message = f"{path}: expected a column {' or '.join(layout.subject)}, got {', '.join(table.columns)}"
        raise ValueError(f"{message}; name the subject column so, or give the right table to --phenotypic")
    people = pd.DataFrame({"subject": column(table, layout.subject).str.removeprefix("sub-")})
    people["session"] = column(table, layout.session).str.removeprefix("ses-")
    for name in ("family", "cohort", "site", "role"):
        cells = column(table, getattr(layout, name))
        people[name] = cells.mask(is_missing(cells), "")
    people["family"] = people["family"].str.removeprefix("sub-")
    people["diagnosis_text"] = column(table, layout.diagnosis)
    people["line"], people["file"], people["group"] = table.index, str(path), group
    people["absence"], people["absence_column"] = "", "t1w"
    people = _named(people, problems)
    people = _with_age(people, column(table, layout.age)[people.index], problems)
    people = _with_sex(people, column(table, layout.sex)[people.index], layout, problems)
    return _with_codes(people, layout, problems)[list(PEOPLE_COLUMNS)].reset_index(drop=True)


def cells_of(people: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Another column of the tables that people come from, beside them; "" where a table does not have it."""
    cells = pd.Series("", index=people.index, dtype=str)
    for file, rows in people.groupby("file"):
        told = column(read_table(Path(file)), names)
        cells.loc[rows.index] = told.reindex(rows["line"], fill_value="").to_numpy()
    return cells


def no_people() -> pd.DataFrame:
    """A table of nobody, for a data set that comes without phenotypic tables."""
    return pd.DataFrame(columns=list(PEOPLE_COLUMNS), dtype=str).astype({"age_years": float, "line": int})


def exclude_person(person: object, problems: Problems, name: str, reason: str, fix: str) -> None:
    """Exclude one row of a table of people, as `itertuples` gives it, for what its column `name` holds."""
    place = {"line": person.line, "session": person.session, "column": name, "file": Path(person.file)}
    problems.exclude(person.subject, reason, fix, **place)


def _named(people: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    nameless = is_missing(people["subject"])
    for person in people[nameless].itertuples():
        problems.exclude("", "no subject id", "write one", line=person.line, column="subject", file=Path(person.file))
    return people[~nameless]


def _with_age(people: pd.DataFrame, cells: pd.Series, problems: Problems) -> pd.DataFrame:
    years, bad = ages(cells)
    for person, cell in zip(people[bad].itertuples(), cells[bad], strict=True):
        reason = f"age {cell!r} is not between 0 and {OLDEST:g} years"
        exclude_person(person, problems, "age_years", reason, "write the age in years at the scan, or n/a")
    return people.assign(age_years=years)[~bad]


def _with_sex(people: pd.DataFrame, cells: pd.Series, layout: Layout, problems: Problems) -> pd.DataFrame:
    sex, unknown = words(cells, layout.sexes)
    for person, cell in zip(people[unknown].itertuples(), cells[unknown], strict=True):
        place = {"line": person.line, "column": "sex", "file": Path(person.file)}
        problems.warn(person.subject, f"sex {cell!r} is not known here: left empty", "write F or M, or n/a", **place)
    return people.assign(sex=sex)


def _with_codes(people: pd.DataFrame, layout: Layout, problems: Problems) -> pd.DataFrame:
    diagnosis, unknown = words(people["diagnosis_text"], layout.diagnoses)
    for person in people[unknown].itertuples():
        reason = f"diagnosis {person.diagnosis_text!r} is none that is known here"
        fix = f"write one of {', '.join(DIAGNOSES)}"
        exclude_person(person, problems, "diagnosis", reason, fix)
    wrong_role = ~people["role"].isin(["", *ROLES]) & ~unknown
    for person in people[wrong_role].itertuples():
        fix = f"write one of {', '.join(ROLES)}"
        exclude_person(person, problems, "role", f"role {person.role!r} is none that is known here", fix)
    coded = people.assign(diagnosis=diagnosis.replace("", "unknown"))
    return coded[~unknown & ~wrong_role]


def once_each(people: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """One row per person and session: a repetition is read once, contradictory rows are excluded."""
    key = ["group", "subject", "session"]
    if not people.duplicated(key).any():
        return people
    facts = people[["group", *PERSON]]
    repeated = facts.duplicated()
    for person in people[repeated].itertuples():
        place = {
            "line": person.line,
            "session": person.session,
            "column": "subject",
            "file": Path(person.file),
        }
        problems.warn(person.subject, "the same row again: read once", "remove the repetition", **place)
    contradictory = people.duplicated(key, keep=False) & ~repeated & facts[~repeated].duplicated(key, keep=False)
    for person in people[contradictory].itertuples():
        same = people.loc[contradictory & (people["subject"] == person.subject), "line"]
        lines = ", ".join(str(line) for line in same if line != person.line)
        reason = f"line {lines} says something else of the same subject"
        exclude_person(person, problems, "subject", reason, "find out which row is right and remove the other")
    return people[~repeated & ~contradictory].reset_index(drop=True)
