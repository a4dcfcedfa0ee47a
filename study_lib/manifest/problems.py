"""What is wrong with a manifest: problems of the table raise, exclusions of rows are listed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

EXCLUDED_COLUMNS: tuple[str, ...] = ("line", "subject", "session", "column", "file", "reason", "fix")
SHOWN_PROBLEMS = 20


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of the table. Line 1 is the header; line 0 stands for the file as a whole."""

    line: int
    column: str
    subject: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        where += [f"subject {self.subject!r}"] if self.subject else []
        where += [f"column {self.column!r}"] if self.column else []
        place = ", ".join(where) or "the file"
        return f"{place}: expected {self.expected}, got {self.got}. Fix: {self.fix}"


class ManifestError(ValueError):
    """A table that cannot be read as a manifest; `problems` holds all faults, the message the first 20."""

    def __init__(self, csv: str | Path, problems: Iterable[Problem]) -> None:
        self.csv = Path(csv)
        self.problems = sorted(problems)
        super().__init__(_message(self.csv, self.problems))

    def __reduce__(self) -> tuple:
        return type(self), (self.csv, self.problems)


def _message(csv: Path, problems: Sequence[Problem]) -> str:
    count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
    lines = [f"manifest {csv}: {count}", *(f"  {problem}" for problem in problems[:SHOWN_PROBLEMS])]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  … and {len(problems) - SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def exclusion(
    *, line: int, subject: str, session: str, column: str, file: str, reason: str, fix: str
) -> dict[str, object]:
    """One row of an excluded or warnings table: who, where, why, and what to do."""
    values = (line, subject, session, column, file, reason, fix)
    return dict(zip(EXCLUDED_COLUMNS, values, strict=True))


def exclusion_table(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Rows of `exclusion` as a table in the order of lines; it has its columns even without rows."""
    table = pd.DataFrame(list(rows), columns=list(EXCLUDED_COLUMNS))
    table = table.astype({"line": int} | dict.fromkeys(EXCLUDED_COLUMNS[1:], str))
    return table.drop_duplicates().sort_values("line", kind="stable", ignore_index=True)
