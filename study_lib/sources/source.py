"""What a source is, and the steps most of them share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from study_lib.sources.curation import Curation, Request
from study_lib.sources.people import Layout, no_people, once_each, people_of
from study_lib.sources.problems import Problems
from study_lib.sources.scans import find_scans
from study_lib.sources.sidecars import scan_acquisitions
from study_lib.sources.tables import find_column, find_tables, read_table


class Status(StrEnum):
    """Whether an adapter has met real data."""

    VERIFIED = "verified"
    DOCUMENTATION = "from documentation"


@dataclass(frozen=True)
class Source:
    """One data set: how it is called, whether its adapter has been run on real data, and the adapter."""

    name: str
    title: str
    status: Status
    evidence: str  # which real table or tree it was run on, or which documentation it follows
    build: Callable[[Request], Curation]


def scans_of(files: pd.DataFrame, request: Request, problems: Problems) -> pd.DataFrame:
    """The scans among indexed files, with what their sidecars say of the acquisition."""
    scans = find_scans(files, request.choice, problems)
    return scans.join(scan_acquisitions(scans, files, problems))


def participants(request: Request, layout: Layout, problems: Problems) -> pd.DataFrame:
    """The people of the tables given, else of participants.tsv: the whole tree's, or each site's."""
    paths = list(request.phenotypic) or find_tables(request.root, ["participants.tsv", "participants.csv"], depth=1)
    in_site = [not request.phenotypic and path.parent != request.root and _is_tree(path.parent) for path in paths]
    tables = [
        people_of(read_table(path), path, layout, problems, group=path.parent.name if below else "")
        for path, below in zip(paths, in_site, strict=True)
    ]
    return once_each(pd.concat(tables, ignore_index=True), problems) if tables else no_people()


def _is_tree(folder: Path) -> bool:
    return next(folder.glob("sub-*"), None) is not None


def tables_of(request: Request, patterns: Sequence[str], subject: str) -> tuple[list[Path], list[Path]]:
    """The phenotypic tables (those with the subject's column) and the other tables given with the request."""
    paths = list(request.phenotypic) or find_tables(request.root, patterns)
    tables = [path for path in paths if find_column(read_table(path), [subject]) is not None]
    if not tables:
        message = f"no table with a column {subject}: expected {' or '.join(patterns)} under {request.root}"
        given = f", got {', '.join(map(str, paths))}" if paths else ""
        raise FileNotFoundError(f"{message}{given}; give it with --phenotypic")
    return tables, [path for path in paths if path not in tables]
