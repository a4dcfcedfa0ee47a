"""Networks on disk: one .npz with its .json per subject, and reading them back."""

import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.connectivity.networks import FunctionalConnectivity
from cinp_lib.connectivity.series import RegionSeries, SeriesSettings
from study_lib.files import atomic_write_bytes, atomic_write_json

VERSION = 1
"""Goes up when the same input and settings give other numbers, so that no old result is taken for a new one."""
FOLDER = "networks"


@dataclass(frozen=True)
class NetworkSettings:
    """How series are made and what becomes of them."""

    series: SeriesSettings = field(default_factory=SeriesSettings)
    kind: str = "correlation"
    fisher_z: bool = False
    prefer: str = "bold"  # where a subject has both; or "time_series"
    per_session: bool = False  # False: all sessions of a subject make one network

    def digest(self, atlas: Atlas) -> str:
        """What a result must have been made with to count as done."""
        content = json.dumps([VERSION, asdict(self), atlas.digest], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def save_network(folder: Path, key: str, series: RegionSeries, settings: NetworkSettings, about: dict) -> dict:
    """Write network, series and record; the record, written last, says that the subject is done."""
    estimator = FunctionalConnectivity(settings.kind, settings.fisher_z)
    network = estimator.fit_transform([series.time_series])[0]
    buffer = io.BytesIO()
    values = {"network": network.astype(np.float32), "series": series.time_series.astype(np.float32)}
    np.savez(buffer, **values, missing=series.missing)
    data = buffer.getvalue()
    atomic_write_bytes(folder / FOLDER / f"{key}.npz", data)
    record = about | {
        "settings": asdict(settings),
        "volumes": series.n_volumes,
        "kept_volumes": series.kept_volumes,
        "kept": [list(kept) for kept in series.kept],
        "runs": len(series.kept),
        "mean_fd_mm": _json_number(series.mean_fd_mm),
        "mean_fd_kept_mm": _json_number(series.mean_fd_kept_mm),
        "repetition_time_s": _json_number(series.repetition_time_s),
        "missing_regions": series.missing_names,
        "least_coverage": float(series.coverage.min()),
        "inputs": list(series.inputs),
        "notes": list(series.notes),
        "regions": list(series.names),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    atomic_write_json(folder / FOLDER / f"{key}.json", record)
    return record


def is_done(folder: Path, key: str, digest: str, sources: list[Path]) -> bool:
    """Whether a result of these settings and of unchanged input files is there."""
    path = folder / FOLDER / f"{key}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["settings_digest"] == digest and record["sources"] == stamps(sources)
        return same and path.with_suffix(".npz").is_file()
    except (OSError, ValueError, KeyError):
        return False


def stamps(files: list[Path]) -> list[dict]:
    """Path, size and time of change of files: enough to notice that one is another, without reading it."""
    found = [(file, file.stat() if file.exists() else None) for file in files]
    return [
        {"file": str(f), "bytes": s.st_size, "modified_ns": s.st_mtime_ns} if s else {"file": str(f)} for f, s in found
    ]


def load_networks(folder: str | Path) -> tuple[list[str], np.ndarray, pd.DataFrame]:
    """Subjects, their (subject, 116, 116) networks, and a table with one row for each of them, in the same order.

    With sessions kept apart a subject occurs once per session; the table tells them apart.
    """
    records = _records(folder)
    networks = np.array([_load(folder, record)["network"] for record in records])
    return [record["subject"] for record in records], networks, _table(records)


def load_series(folder: str | Path) -> tuple[list[str], list[np.ndarray], pd.DataFrame]:
    """As `load_networks`, with the (time, 116) series: for `partial` and `tangent`, fitted on training subjects."""
    records = _records(folder)
    series = [_load(folder, record)["series"].astype(np.float64) for record in records]
    return [record["subject"] for record in records], series, _table(records)


def region_names(folder: str | Path) -> list[str]:
    """The names of rows and columns."""
    return _records(folder)[0]["regions"]


def _records(folder: str | Path) -> list[dict]:
    paths = sorted(Path(folder, FOLDER).glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"networks: expected results in {Path(folder, FOLDER)}, got none; make them with "
            "python -m cinp_lib.connectivity --manifest MANIFEST --out FOLDER"
        )
    records = [json.loads(path.read_text(encoding="utf-8")) | {"key": path.stem} for path in paths]
    digests = {record["settings_digest"] for record in records}
    if len(digests) > 1:
        raise ValueError(
            f"networks in {folder}: expected one set of settings, got {len(digests)}, left by an unfinished run with "
            "other settings; run the same command again, or remove the folder"
        )
    return records


def _load(folder: str | Path, record: dict) -> dict[str, np.ndarray]:
    path = Path(folder, FOLDER, f"{record['key']}.npz")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise ValueError(f"{path}: its checksum is not the one in its .json; remove both and run the batch again")
    with np.load(io.BytesIO(data)) as content:
        return dict(content)


def _table(records: list[dict]) -> pd.DataFrame:
    plain = ("subject", "session", "cohort", "site", "volumes", "kept_volumes", "runs", "mean_fd_mm", "mean_fd_kept_mm")
    rows = []
    for record in records:
        row = {name: record[name] for name in plain}
        row["source"] = record["source"]
        row["missing_regions"] = ", ".join(record["missing_regions"])
        row["n_missing"] = len(record["missing_regions"])
        row["notes"] = "; ".join(record["notes"])
        rows.append(row)
    return pd.DataFrame(rows).astype({"mean_fd_mm": float, "mean_fd_kept_mm": float})


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
