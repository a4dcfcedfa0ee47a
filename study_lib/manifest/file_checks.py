"""Every file of a manifest, opened once each, rows in parallel; then the scans compared with each other."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import pandas as pd
from tqdm.auto import tqdm

from study_lib.manifest.problems import exclusion
from study_lib.manifest.twins import identical_files, same_scans, swapped_sides
from study_lib.scan_checks.bold import examine_bold
from study_lib.scan_checks.findings import Finding, UnreadableScan
from study_lib.scan_checks.mask import check_mask_of
from study_lib.scan_checks.reading import Scan, read_bytes, read_scan, refuse_absent
from study_lib.scan_checks.table import check_table
from study_lib.scan_checks.volume import Examination, check_scan, examine

FILE_COLUMNS = ("t1w", "t1w_mask", "bold", "confounds", "time_series")


@dataclass(frozen=True)
class RowReport:
    """What the files of one row gave: findings by column, checksums by column, and the T1w's description."""

    line: int
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    t1w: Examination | None = None


@dataclass(frozen=True)
class FileFindings:
    """Rows of the excluded and of the warnings table."""

    excluded: list[dict[str, object]]
    warnings: list[dict[str, object]]


def check_rows(
    table: pd.DataFrame, root: Path, n_jobs: int = 1, progress: bool = False, read_bold: bool = False
) -> FileFindings:
    """Check the files of a typed table that is indexed by line."""
    has_sibling = table.loc[table["t1w"] != "", "subject"].duplicated(keep=False)
    jobs = (
        joblib.delayed(report_row)(line, row.to_dict(), root, bool(has_sibling.get(line, False)), read_bold)
        for line, row in table.iterrows()
    )
    results = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    reports = list(tqdm(results, total=len(table), desc="checking files", unit="row", disable=not progress))
    single = [(report.line, column, finding) for report in reports for column, finding in report.findings]
    return _sorted_out(table, [*single, *_compared(table, reports)])


def _compared(table: pd.DataFrame, reports: list[RowReport]) -> Iterator[tuple[int, str, Finding]]:
    """Findings that need several rows."""
    subjects = table["subject"].to_dict()
    t1w = {report.line: report.t1w for report in reports if report.t1w is not None}
    yield from ((line, "t1w", finding) for line, finding in same_scans(t1w, subjects))
    yield from ((line, "t1w", finding) for line, finding in swapped_sides(t1w, subjects))
    for column in ("bold", "time_series"):
        # A checksum in the table counts also where the file was not read.
        noted = table.loc[table[f"{column}_sha256"] != "", f"{column}_sha256"].to_dict()
        read = {report.line: report.digests[column] for report in reports if column in report.digests}
        yield from ((line, column, finding) for line, finding in identical_files(noted | read, subjects))


def _sorted_out(table: pd.DataFrame, findings: list[tuple[int, str, Finding]]) -> FileFindings:
    excluded, warnings = [], []
    for line, column, finding in findings:
        row = table.loc[line]
        entry = exclusion(
            line=int(line),
            subject=row["subject"],
            session=row["session"],
            column=column,
            file=row[column],
            reason=f"{finding.kind}: {finding.message}",
            fix=finding.fix,
        )
        (excluded if finding.is_error else warnings).append(entry)
    return FileFindings(excluded, warnings)


def report_row(line: int, row: dict[str, object], root: Path, has_sibling: bool, read_bold: bool) -> RowReport:
    """Open the files of one row. An unforeseen failure becomes a finding, so that the other rows go on."""
    report = RowReport(line)
    t1w: Scan | None = None
    for column in FILE_COLUMNS:
        if not row[column]:
            continue
        path = root / str(row[column])
        try:
            refuse_outside(path, root)
            if column == "t1w":
                t1w, report = _with_t1w(report, path, has_sibling)
            else:
                _add(report, column, *_checked(column, path, t1w, read_bold, bool(row.get(f"{column}_sha256"))))
        except UnreadableScan as error:
            report.findings.append((column, error.finding))
        except Exception as error:
            finding = Finding("unreadable", f"{type(error).__name__}: {error}", "open it by hand, and fetch it again")
            report.findings.append((column, finding))
        _compare_checksum(report, column, str(row.get(f"{column}_sha256", "")))
    return report


def refuse_outside(path: Path, root: Path) -> None:
    """Raise for a link, of the file or of a folder above it, that leads out of the data root."""
    if path.is_symlink() and not path.exists():
        refuse_absent(path)
    target = path.resolve()
    if target.is_relative_to(root.resolve()):
        return
    message = f"{path.name} leads out of the data root, to {target}"
    fix = "copy the file into the data root, or set a root that holds the link's target as well"
    raise UnreadableScan(Finding("outside root", message, fix))


def _with_t1w(report: RowReport, path: Path, has_sibling: bool) -> tuple[Scan | None, RowReport]:
    scan = read_scan(path)
    examination = examine(scan, has_sibling)
    _add(report, "t1w", examination.findings, scan.sha256)
    usable = not any(finding.is_error for finding in examination.findings)
    return (scan if usable else None), RowReport(report.line, report.findings, report.digests, examination)


def _checked(column: str, path: Path, t1w: Scan | None, read_bold: bool, checksum: bool) -> tuple[list[Finding], str]:
    """Findings on any file but a T1w, and its SHA-256 where it came with them."""
    if column == "bold":
        return examine_bold(path, read=read_bold, checksum=checksum)
    if column == "t1w_mask":
        mask = read_scan(path)
        findings = check_scan(mask, "mask")
        if t1w is not None and not any(finding.is_error for finding in findings):
            findings += check_mask_of(mask, t1w)
        return findings, mask.sha256
    content = read_bytes(path)
    return check_table(path, content), hashlib.sha256(content).hexdigest()


def _add(report: RowReport, column: str, findings: list[Finding], digest: str) -> None:
    report.findings.extend((column, finding) for finding in findings)
    if digest:
        report.digests[column] = digest


def _compare_checksum(report: RowReport, column: str, expected: str) -> None:
    got = report.digests.get(column, "")
    if not expected or not got or got == expected:
        return
    message = f"SHA-256 is {got[:12]}…, the manifest says {expected[:12]}…"
    fix = "fetch the file again; if it was changed on purpose, write its new checksum to the manifest"
    report.findings.append((column, Finding("checksum", message, fix)))
