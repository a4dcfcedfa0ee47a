"""Folders and BIDS trees harmonised: resumable, and no file's fault stops the others.

Beside every image lies a JSON file with its sources and settings, written last: an image whose JSON names the same
inputs, model and settings is done and skipped. What fails is listed in `failures.csv`, with reason and fix.
"""

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gan_lib.harmonize import Harmonizer, TargetStyle
from gan_lib.harmonize_file import FileJob, check_outputs, harmonize_file
from gan_lib.quality_page import quality_numbers
from gan_lib.scan_finder import FoundScan, FoundScans, find, stem
from study_lib.files import atomic_write_json, atomic_write_text, sha256_of
from study_lib.provenance import git_state
from study_lib.volume import load_volume

VERSION = 1  # goes up when the same inputs and settings give other voxels, so that no old result is taken for a new one
FAILURE_COLUMNS = ["file", "mask", "reason", "fix"]
UNKNOWN_FIX = "mend or fetch the file again, or leave it out"


@dataclass(frozen=True)
class BatchConfig:
    """`target` holds in words and checksums what is translated to; folders mirror the names of the output."""

    target: Mapping[str, str]
    differences: Path | None = None
    pages: Path | None = None
    masks: Path | None = None
    overwrite: bool = False
    progress: bool = True


@dataclass(frozen=True)
class BatchResult:
    """Images that were made and that were there already, what failed, and which files were left out on purpose."""

    made: list[str]
    skipped: list[str]
    failures: pd.DataFrame
    warnings: tuple[str, ...]


def harmonize_folder(
    harmonizer: Harmonizer, style: TargetStyle, source: str | Path, out: str | Path, config: BatchConfig
) -> BatchResult:
    """Harmonise every scan below `source` into `out`, mirroring names; a BIDS tree becomes a BIDS derivative."""
    source, out = Path(source), Path(out)
    if config.differences and config.differences.resolve() == out.resolve():
        raise ValueError(f"{out}: the harmonised images and the differences have one folder; give each its own")
    outputs = [out, *(folder for folder in (config.differences, config.pages) if folder)]
    found = find(source, outputs, config.masks)
    if found.is_bids:
        _describe(source, out, found)
    return harmonize_found(harmonizer, style, found, (source, out), config)


def harmonize_found(
    harmonizer: Harmonizer, style: TargetStyle, found: FoundScans, folders: tuple[Path, Path], config: BatchConfig
) -> BatchResult:
    """The same for scans that are known already; `folders`: that of the inputs, and the one to write."""
    (source, out), made, skipped, failures = folders, [], [], []
    bar = tqdm(found.scans, desc="harmonise", unit="scan", disable=not config.progress)
    for scan in bar:
        job = _job(scan, out, config)
        try:
            done = _attempt(harmonizer, style, job, source, config)
            (made if done else skipped).append(scan.out.as_posix())
        except MemoryError:
            raise
        except Exception as error:  # no file stops the batch: what was not foreseen is listed with its place
            failures.append(_failure(error, scan, source))
            _forget(job)
    table = pd.DataFrame(failures, columns=FAILURE_COLUMNS)
    atomic_write_text(out / "failures.csv", table.to_csv(index=False, lineterminator="\n"))
    return BatchResult(made, skipped, table, found.warnings)


def record_path(out: Path) -> Path:
    """The JSON file of an image."""
    return out.with_name(stem(out) + ".json")


def _job(scan: FoundScan, out: Path, config: BatchConfig) -> FileJob:
    difference = config.differences / scan.out if config.differences else None
    page = (config.pages / scan.out).with_name(stem(scan.out) + ".html") if config.pages else None
    return FileJob(scan.image, scan.mask, out / scan.out, difference, page)


def _attempt(harmonizer: Harmonizer, style: TargetStyle, job: FileJob, source: Path, config: BatchConfig) -> bool:
    """Make one image; False where it is there already."""
    expected = _settings(harmonizer, config) | {"Inputs": [_checksum(path) for path in job.inputs]}
    record = _record(job)
    if not config.overwrite and record is not None and _is_done(job, record, expected):
        return False
    check_outputs(job, overwrite=config.overwrite or record is not None)
    result = harmonize_file(harmonizer, style, job)
    content = {
        "Sources": [_relative(path, source) for path in job.inputs],
        "SkullStripped": True,
        "Units": "arbitrary",
        "IntensityScale": "[0, 1] in the brain, 0 outside: the study's normalised units",
        "HarmonisedTo": style.name,
        "Notes": list(result.notes),
        "Numbers": quality_numbers(result),
        "GeneratedBy": [_software()],
        "Harmonisation": expected | {"Bytes": job.out.stat().st_size},
    }
    atomic_write_json(record_path(job.out), content)
    return True


def _checksum(path: Path) -> str:
    if not path.is_file():
        load_volume(path)  # says what is wrong: absent, or a link whose content was not fetched
    return sha256_of(path)


def _settings(harmonizer: Harmonizer, config: BatchConfig) -> dict[str, Any]:
    """All that decides on the voxels, apart from the inputs."""
    return {
        "Version": VERSION,
        "ModelSHA256": harmonizer.model.checksum,
        "Target": dict(config.target),
        "Detail": harmonizer.config.detail,
        "Planes": list(harmonizer.planes),
    }


def _record(job: FileJob) -> dict[str, Any] | None:
    """What an earlier run wrote about an image; None where the image is not this command's."""
    try:
        content = json.loads(record_path(job.out).read_text(encoding="utf-8"))["Harmonisation"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if isinstance(content, dict) else None


def _is_done(job: FileJob, record: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    whole = all(path.is_file() for path in job.outputs) and job.out.stat().st_size == record.get("Bytes")
    return whole and all(record.get(name) == value for name, value in expected.items())


def _forget(job: FileJob) -> None:
    """An older result of this command, of other inputs or settings, must not stand for this one."""
    if _record(job) is not None and record_path(job.out).is_file():
        for path in (record_path(job.out), *job.outputs):
            path.unlink(missing_ok=True)


def _failure(error: Exception, scan: FoundScan, source: Path) -> dict[str, str]:
    """The library's messages end in what to do, after the last semicolon."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, ValueError | KeyError | OSError):
        reason, _, fix = text.rpartition("; ")
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"
        reason, fix = "", ""
    mask = _relative(scan.mask, source) if scan.mask else ""
    values = (_relative(scan.image, source), mask, reason or text, fix if reason else UNKNOWN_FIX)
    return dict(zip(FAILURE_COLUMNS, values, strict=True))


def _relative(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else str(path)


def _describe(source: Path, out: Path, found: FoundScans) -> None:
    """What BIDS asks of a derivative data set; one per site where the sites have folders of their own."""
    groups = {scan.out.parts[0] for scan in found.scans if not scan.out.parts[0].startswith("sub-")}
    roots = {out} | {out / group for group in groups}
    for root in sorted(roots):
        content = {
            "Name": f"{source.resolve().name}, harmonised",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [_software()],
        }
        atomic_write_json(root / "dataset_description.json", content)
    atomic_write_text(out / ".bidsignore", "failures.csv\n")


@cache
def _software() -> dict[str, str]:
    return {"Name": "gan-harmonize", "Version": str(git_state()["commit"])}
