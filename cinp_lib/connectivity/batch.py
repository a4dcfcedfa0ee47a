"""Networks of a whole manifest: in parallel, resumable, and no subject's fault stops the others."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from cinp_lib.connectivity.atlas import AAL, Atlas, cohort_atlas, fetch_aal
from cinp_lib.connectivity.networks import KINDS
from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.results import FOLDER, NetworkSettings, is_done, save_network, stamps
from cinp_lib.connectivity.runs import Run, runs_of
from cinp_lib.connectivity.series import RegionSeries, file_series, joined, series_of_runs
from study_lib.files import atomic_write_text
from study_lib.manifest import Manifest

FAILURE_COLUMNS = ["subject", "session", "file", "reason", "fix"]


@dataclass(frozen=True)
class Scan:
    """One row's source of series: BOLD in one or several runs, or a file of series."""

    kind: str  # bold or time_series
    path: Path
    runs: tuple[Run, ...]
    sha256: str  # as the manifest has it, may be empty


@dataclass(frozen=True)
class Job:
    """What makes one network."""

    key: str
    subject: str
    session: str
    cohort: str
    site: str
    scans: tuple[Scan, ...]

    def sources(self) -> list[Path]:
        """Every file that has a say in the result."""
        of_runs = [p for s in self.scans for r in s.runs for p in (r.bold, r.mask, r.confounds) if p]
        return of_runs + [scan.path for scan in self.scans if scan.kind == "time_series"]


@dataclass(frozen=True)
class BatchResult:
    """Keys of networks that were made and that were there already, rows that have no series, and the failures."""

    made: list[str]
    skipped: list[str]
    without_series: int
    failures: pd.DataFrame


def make_networks(
    manifest: Manifest,
    folder: str | Path,
    settings: NetworkSettings | None = None,
    atlas: Atlas | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> BatchResult:
    """Make the network of every subject with BOLD or series; failures are listed in `failures.csv`, never raised.

    A folder holds the networks of one manifest: results of subjects that it does not name are removed.
    """
    settings, folder = settings or NetworkSettings(), Path(folder)
    _check_settings(settings)
    jobs, without_series = jobs_of(manifest, settings)
    atlas = atlas or default_atlas(manifest, jobs)
    digest = settings.digest(atlas)
    skipped = [job.key for job in jobs if is_done(folder, job.key, digest, job.sources())]
    waiting = [job for job in jobs if job.key not in set(skipped)]
    _remove_others(folder, {job.key for job in jobs})
    calls = (delayed(_attempt)(job, folder, settings, atlas, digest) for job in waiting)
    done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls)
    bar = tqdm(done, total=len(waiting), desc="networks", unit="subject", disable=not progress)
    outcomes = sorted(bar, key=lambda outcome: outcome[0])
    rows = [row for _, row in outcomes if row]
    failures = pd.DataFrame(rows, columns=FAILURE_COLUMNS)
    atomic_write_text(folder / "failures.csv", failures.to_csv(index=False, lineterminator="\n"))
    return BatchResult([key for key, row in outcomes if not row], skipped, without_series, failures)


def jobs_of(manifest: Manifest, settings: NetworkSettings) -> tuple[list[Job], int]:
    """One job per subject (or session), and the number of rows with neither BOLD nor series."""
    grouped: dict[str, list] = {}
    without_series = 0
    named = {manifest.root / path for path in manifest.table["bold"] if path}
    for row in manifest.table.itertuples():
        if not (row.bold or row.time_series):
            without_series += 1
            continue
        session = f"_ses-{row.session}" if settings.per_session and row.session else ""
        grouped.setdefault(f"sub-{row.subject}{session}", []).append(row)
    jobs = []
    for key, rows in grouped.items():
        scans = tuple(_scan(manifest, row, settings.prefer, named) for row in rows)
        # Cleaned BOLD and somebody else's series are not mixed in one network.
        first = scans[0].kind if settings.prefer not in {s.kind for s in scans} else settings.prefer
        session = "+".join(row.session for row in rows if row.session)
        place = (rows[0].subject, session, rows[0].cohort, rows[0].site)
        jobs.append(Job(key, *place, tuple(scan for scan in scans if scan.kind == first)))
    return jobs, without_series


def default_atlas(manifest: Manifest, jobs: list[Job]) -> Atlas:
    """The data set's own atlas, else AAL: its image where BOLD is to be read, else its names."""
    own = cohort_atlas(manifest.root)
    if own is not None:
        return own
    return fetch_aal() if any(scan.kind == "bold" for job in jobs for scan in job.scans) else AAL


def subject_series(job: Job, atlas: Atlas, settings: NetworkSettings) -> RegionSeries:
    """The series of all scans of a job, end to end."""
    parts = []
    for scan in job.scans:
        if scan.kind == "bold":
            parts.append(series_of_runs(scan.runs, atlas, settings.series))
        else:
            parts.append(file_series(scan.path, atlas, settings.series))
        _refuse_other_content(scan, parts[-1])
    return joined(parts)


def _refuse_other_content(scan: Scan, series: RegionSeries) -> None:
    found = {entry["file"]: entry["sha256"] for entry in series.inputs}.get(str(scan.path), scan.sha256)
    if scan.sha256 and found != scan.sha256:
        reason = f"expected the SHA-256 that the manifest has, {scan.sha256[:12]}..., got {found[:12]}..."
        raise SubjectError(scan.path, reason, "restore the file, or build the manifest again")


def _scan(manifest: Manifest, row: tuple, prefer: str, named: set[Path]) -> Scan:
    kind = prefer if getattr(row, prefer) else "bold" if row.bold else "time_series"
    path = manifest.path(row, kind)
    if kind == "time_series":
        return Scan(kind, path, (), row.time_series_sha256)
    confounds = manifest.path(row, "confounds") if row.confounds else None
    # A sibling run is read once: in its own row if it has one, else with the first row that finds it.
    runs = tuple(run for run in runs_of(path, confounds) if run.bold == path or run.bold not in named)
    named |= {run.bold for run in runs}
    return Scan(kind, path, runs, row.bold_sha256)


def _attempt(job: Job, folder: Path, settings: NetworkSettings, atlas: Atlas, digest: str) -> tuple[str, dict | None]:
    """Make and save one network; the second value is a row of failures, or None."""
    about = {"subject": job.subject, "session": job.session, "cohort": job.cohort, "site": job.site}
    about |= {"source": job.scans[0].kind, "atlas": atlas.name, "settings_digest": digest}
    try:
        series = subject_series(job, atlas, settings)
        save_network(folder, job.key, series, settings, about | {"sources": stamps(job.sources())})
        return job.key, None
    except SubjectError as error:
        problem = (error.file, error.reason, error.fix)
    except Exception as error:  # no subject stops the batch: what was not foreseen is listed with its place
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
        problem = (str(job.scans[0].path), reason, "report it with the file's header, or leave the subject out")
    for suffix in (".json", ".npz"):  # an older result of other settings or inputs must not stand for this one
        (folder / FOLDER / f"{job.key}{suffix}").unlink(missing_ok=True)
    return job.key, dict(zip(FAILURE_COLUMNS, (job.subject, job.session, *problem), strict=True))


def _remove_others(folder: Path, keys: set[str]) -> None:
    """Results of subjects that the manifest no longer has would otherwise be loaded with the rest."""
    for record in (folder / FOLDER).glob("*.json"):
        if record.stem not in keys and "settings_digest" in record.read_text(encoding="utf-8", errors="replace"):
            record.unlink()
            record.with_suffix(".npz").unlink(missing_ok=True)


def _check_settings(settings: NetworkSettings) -> None:
    if settings.kind == "tangent":
        raise ValueError(
            "kind: expected correlation or partial, got tangent, whose reference must be learned from training "
            "subjects; make the series here, read them with load_series, and fit FunctionalConnectivity('tangent') on "
            "those of the training subjects"
        )
    if settings.kind not in KINDS:
        raise ValueError(f"kind: expected correlation or partial, got {settings.kind!r}")
    if settings.prefer not in ("bold", "time_series"):
        raise ValueError(f"prefer: expected bold or time_series, got {settings.prefer!r}")


def summary(result: BatchResult) -> Iterator[str]:
    """What to tell the user, in lines."""
    yield f"{len(result.made)} networks made, {len(result.skipped)} were there, {len(result.failures)} failed"
    if result.without_series:
        yield f"{result.without_series} rows have neither bold nor time_series"
    for row in result.failures.head(10).itertuples():
        yield f"  {row.subject}: {row.reason} [{row.file}]. Fix: {row.fix}"
