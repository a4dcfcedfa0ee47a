"""What the cells of one row, and the rows of one manifest, must be to each other."""

from collections.abc import Iterator
from itertools import combinations
from posixpath import normpath

import pandas as pd

from study_lib.manifest.problems import Problem, exclusion

SCAN_COLUMNS = ("t1w", "bold", "time_series")
# A brain mask of a template may serve many rows; every other file belongs to one row.
OWN_FILE_COLUMNS = ("t1w", "bold", "confounds", "time_series")
# Below, a T1w's repetition time counts excitations; above, inversion pulses.
INVERSION_FROM_MS = 900.0
LEAK_FREE_ROLES = frozenset({"test", "travelling"})


def row_problems(table: pd.DataFrame) -> list[Problem]:
    """Faults that need more than one cell to see, over a typed table indexed by line."""
    rules = (_without_scan, _kind_against_value, _repeated_rows, _repeated_files, _several_values, _leaks)
    return [problem for rule in rules for problem in rule(table)]


def row_warnings(table: pd.DataFrame, csv: str) -> list[dict[str, object]]:
    """What is suspicious in the table, though it may be true."""
    return [*_unnamed_kinds(table, csv), *_changing_sex(table, csv)]


def _without_scan(table: pd.DataFrame) -> Iterator[Problem]:
    empty = (table[list(SCAN_COLUMNS)] == "").all(axis=1)
    for line, subject in table.loc[empty, "subject"].items():
        fix = "write a path in one of them, or leave the row out and list it as excluded"
        yield Problem(line, "t1w", subject, "a file in t1w, bold or time_series", "three empty cells", fix)


def _kind_against_value(table: pd.DataFrame) -> Iterator[Problem]:
    for line, row in table[table["repetition_time_kind"] != ""].iterrows():
        value, kind = row["repetition_time_ms"], row["repetition_time_kind"]
        if pd.isna(value):
            fix = "write the repetition time, or leave its kind empty"
            yield Problem(line, "repetition_time_kind", row["subject"], "a repetition time beside it", "none", fix)
        elif kind != likely_kind(value):
            low, high = (f"at least {INVERSION_FROM_MS:g}", f"below {INVERSION_FROM_MS:g}")
            expected = f"{low if kind == 'inversion' else high} ms between two {kind} pulses"
            fix = f"write {likely_kind(value)!r} in repetition_time_kind" + _seconds_hint(value)
            yield Problem(line, "repetition_time_ms", row["subject"], expected, f"{value:g}", fix)


def _seconds_hint(value: float) -> str:
    return f", or {value * 1000:g} if the value is in seconds" if value <= 15 else ""


def likely_kind(repetition_time_ms: float) -> str:
    """The convention a T1w repetition time in milliseconds follows, told by its size."""
    return "inversion" if repetition_time_ms >= INVERSION_FROM_MS else "excitation"


def _repeated_rows(table: pd.DataFrame) -> Iterator[Problem]:
    key = ["cohort", "subject", "session"]
    for (_, subject, session), rows in table[table.duplicated(key, keep=False)].groupby(key, sort=False):
        for line in rows.index[1:]:
            got = f"session {session!r} again (first on line {rows.index[0]})"
            fix = "remove the row, or give a further run its own session label"
            yield Problem(line, "session", subject, "one row per cohort, subject and session", got, fix)


def _repeated_files(table: pd.DataFrame) -> Iterator[Problem]:
    seen: dict[str, tuple[int, str]] = {}
    for column in OWN_FILE_COLUMNS:
        for line, path in table.loc[table[column] != "", column].items():
            first_line, first_column = seen.setdefault(normpath(path), (line, column))
            if (first_line, first_column) != (line, column):
                got = f"{path!r} again (first on line {first_line}, column {first_column!r})"
                fix = "keep it in the row whose scan it is"
                yield Problem(line, column, table.loc[line, "subject"], "a file of this row alone", got, fix)
    for line, path in table.loc[table["t1w_mask"] != "", "t1w_mask"].items():
        if normpath(path) in seen:
            other_line, other_column = seen[normpath(path)]
            got = f"{path!r}, which line {other_line} has as {other_column!r}"
            yield Problem(line, "t1w_mask", table.loc[line, "subject"], "a brain mask", got, "write the mask's path")


def _several_values(table: pd.DataFrame) -> Iterator[Problem]:
    """One subject is of one family, and of one cohort unless it travels."""
    for column, rows in (("family", table), ("cohort", table[table["role"] != "travelling"])):
        for subject, values in _varying(rows, "subject", column):
            for line in values.index[values != values.iloc[0]]:
                got = f"{values[line]!r} here and {values.iloc[0]!r} on line {values.index[0]}"
                fix = "give two persons two ids; one person has one"
                yield Problem(line, column, subject, f"one {column} for a subject", got, fix)


def _leaks(table: pd.DataFrame) -> Iterator[Problem]:
    """No subject and no family is on two sides of a split."""
    leaking: set[int] = set()
    for unit in ("subject", "family"):
        for name, roles in _varying(table[table["role"] != "unassigned"], unit, "role"):
            conflict = conflicting_roles(roles)
            if conflict is None or leaking.issuperset(roles.index):
                continue
            leaking.update(roles.index)
            lines = [int(roles.index[roles == role][0]) for role in conflict]
            got = f"{conflict[0]!r} on line {lines[0]} and {conflict[1]!r} on line {lines[1]}"
            fix = f"give all scans of {unit} {name!r} one role (study_lib.splits splits by subject and family)"
            subject = table.loc[max(lines), "subject"]
            yield Problem(max(lines), "role", subject, f"one role for {unit} {name!r}", got, fix)


def _varying(table: pd.DataFrame, unit: str, column: str) -> Iterator[tuple[str, pd.Series]]:
    """The values of `column` for each unit that has more than one."""
    named = table[table[unit] != ""]
    several = named.groupby(unit)[column].transform("nunique") > 1
    yield from named[several].groupby(unit, sort=False)[column]


def conflicting_roles(roles: pd.Series) -> tuple[str, str] | None:
    """Two roles that one subject or family must not have at once, or None."""
    pairs = combinations(dict.fromkeys(roles), 2)
    return next((pair for pair in pairs if not LEAK_FREE_ROLES.issuperset(pair)), None)


def _unnamed_kinds(table: pd.DataFrame, csv: str) -> Iterator[dict[str, object]]:
    unnamed = table["repetition_time_ms"].notna() & (table["repetition_time_kind"] == "")
    for line, row in table[unnamed].iterrows():
        value = row["repetition_time_ms"]
        yield exclusion(
            line=int(line),
            subject=row["subject"],
            session=row["session"],
            column="repetition_time_kind",
            file=csv,
            reason=f"repetition time {value:g} ms without its kind: vendors count it in two ways",
            fix=f"write {likely_kind(value)!r} in repetition_time_kind if that is what {value:g} ms counts",
        )


def _changing_sex(table: pd.DataFrame, csv: str) -> Iterator[dict[str, object]]:
    for subject, sexes in _varying(table[table["sex"] != ""], "subject", "sex"):
        for line in sexes.index[sexes != sexes.iloc[0]]:
            yield exclusion(
                line=int(line),
                subject=subject,
                session=table.loc[line, "session"],
                column="sex",
                file=csv,
                reason=f"sex is {sexes[line]} here and {sexes.iloc[0]} on line {sexes.index[0]}",
                fix="look it up at the source; a mix-up of subjects shows in this way",
            )
