"""Which scans have a network, and the files that training reads: every volume prepared once, every network beside it.

`volumes.npy` (float16, in [0, 1], background 0) and `networks.npy` (float32) hold one entry for each row of the table;
`pairs.json` is written last. A build that was stopped goes on with the volumes that it has.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from cinp_lib.connectivity.results import load_networks
from study_lib.files import atomic_path, atomic_write_json
from study_lib.grid import Grid
from study_lib.intensity import Normaliser, PercentileNormaliser
from study_lib.lock import only_one
from study_lib.manifest import Manifest
from study_lib.preparation import placed_scan

VERSION = 1  # goes up when the same inputs give other files
# The middle of the MNI brain: a cube of 192 mm around it, 96 voxels of 2 mm, holds every adult brain in MNI space.
CENTRE_MM = (0.0, -17.0, 4.0)
COLUMNS = ("subject", "family", "session", "cohort", "site", "age_years", "sex", "diagnosis", "role", "has_network")
FILES = ("t1w", "t1w_mask", "t1w_sha256", "bold_sha256", "time_series_sha256")
EXCLUDED_COLUMNS = ("subject", "session", "site", "file", "reason", "fix")
ARRAYS = ("volumes.npy", "networks.npy")


@dataclass(frozen=True)
class PairConfig:
    """How scans become input of the encoder; the defaults are the study's 2 mm and 96 voxels a side."""

    size: tuple[int, int, int] = (96, 96, 96)
    spacing_mm: float = 2.0
    normaliser: Normaliser = field(default_factory=PercentileNormaliser)  # our choice; it learns from nobody
    alone: bool = False  # whether images without a network are kept too, to be embedded

    def __post_init__(self) -> None:
        if self.normaliser.needs_fit and self.normaliser.learned is None:
            kind = type(self.normaliser).__name__
            raise ValueError(f"PairConfig.normaliser: the {kind} is not fitted; fit it on training volumes first")

    @property
    def grid(self) -> Grid:
        """Voxels around the middle of the MNI brain."""
        corner = np.array(CENTRE_MM) - self.spacing_mm * (np.array(self.size) - 1) / 2
        affine = np.diag([*[self.spacing_mm] * 3, 1.0])
        affine[:3, 3] = corner
        return Grid(self.size, affine)

    def content(self) -> dict:
        """The settings as JSON takes them."""
        normaliser = {"normaliser": type(self.normaliser).__name__, **asdict(self.normaliser)}
        own = {"size": list(self.size), "spacing_mm": self.spacing_mm, "alone": self.alone}
        return {"version": VERSION} | own | normaliser


@dataclass(frozen=True, eq=False)
class SubjectNetworks:
    """Networks by subject, or by subject and session where sessions were kept apart."""

    places: Mapping[str, Mapping[str, int]]  # subject -> session -> place
    matrices: np.ndarray  # (place, region, region)

    @classmethod
    def load(cls, folder: str | Path) -> "SubjectNetworks":
        """What `python -m cinp_lib.connectivity` or notebook 02 left in a folder."""
        subjects, matrices, table = load_networks(folder)
        places: dict[str, dict[str, int]] = {}
        for place, (subject, session) in enumerate(zip(subjects, table["session"].astype(str), strict=True)):
            places.setdefault(subject, {})[session] = place
        return cls(places, matrices)

    @classmethod
    def none(cls, regions: int) -> "SubjectNetworks":
        """For images that come without networks."""
        return cls({}, np.zeros((0, regions, regions), np.float32))

    def place(self, row: Mapping) -> int:
        """That of a row's network: the subject's only one, else that of the row's session."""
        own = self.places.get(row["subject"])
        if own is None:
            raise ValueError("there is no network of this subject")
        place = next(iter(own.values())) if len(own) == 1 else own.get(row["session"])
        if place is None:
            raise ValueError(f"there are networks of its sessions {', '.join(own)}, none of {row['session']!r}")
        if not np.isfinite(self.matrices[place]).all():
            raise ValueError("its network holds NaN or infinity")
        return place


def write_pairs(
    folder: Path, rows: pd.DataFrame, cohort: Manifest, networks: SubjectNetworks, config: PairConfig, n_jobs: int
) -> None:
    """Write the files, unless they are there already; a row that cannot be used is listed with the reason."""
    chosen, wanted, refused = _paired(rows, networks, config.alone)
    keys = [_key(cohort, row, config) for row in chosen]
    identities = [[str(row[name]) for name in (*COLUMNS, *FILES)] for row in chosen]
    digest = _digest([config.content(), keys, identities, refused, hashlib.sha256(wanted.tobytes()).hexdigest()])
    with only_one(folder / "lock"):
        if is_complete(folder, digest):
            return
        pieces = [folder / "pieces" / f"{key}.npy" for key in keys]
        jobs = (delayed(_make_piece)(cohort, r, config, p) for r, p in zip(chosen, pieces, strict=True))
        done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs)
        refused += filter(None, tqdm(done, total=len(keys), desc="volumes", unit="scan", disable=len(keys) < 5))
        usable = [number for number, piece in enumerate(pieces) if piece.is_file()]
        if not usable:
            reasons = "; ".join(f"{r['subject']}: {r['reason']}" for r in refused[:3])
            raise ValueError(f"pairs: expected at least one scan with a network, got none. First reasons: {reasons}")
        content = {"digest": digest, "config": config.content(), "excluded": refused}
        content["pairs"] = [{name: _plain(chosen[n][name]) for name in (*COLUMNS, *FILES)} for n in usable]
        _assemble(folder, [pieces[n] for n in usable], wanted[usable], content)


def is_complete(folder: Path, digest: str | None = None) -> bool:
    """Whether the files (of this digest) are whole."""
    try:
        content = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in ARRAYS}
    except (FileNotFoundError, ValueError):
        return False
    return sizes == content.get("bytes") and digest in (None, content["digest"])


def _paired(
    rows: pd.DataFrame, networks: SubjectNetworks, alone: bool
) -> tuple[list[dict], np.ndarray, list[dict[str, str]]]:
    """Rows that can be used, their networks (0 where an image may stand alone), and exclusions of the others."""
    chosen, found, refused = [], [], []
    blank = np.zeros(networks.matrices.shape[1:], np.float32)
    for row in rows.to_dict("records"):
        try:
            if not row["t1w"]:
                raise ValueError("the row names no T1w")
            missing = alone and row["subject"] not in networks.places
            found.append(blank if missing else networks.matrices[networks.place(row)])
            chosen.append(row | {"has_network": not missing})
        except ValueError as error:
            fix = "make it with python -m cinp_lib.connectivity (its failures.csv has the reason), or remove the row"
            refused.append(_exclusion(row, str(error), fix if row["t1w"] else "give the T1w, or remove the row"))
    return chosen, np.array(found, np.float32).reshape(-1, *blank.shape), refused


def _make_piece(cohort: Manifest, row: dict, config: PairConfig, path: Path) -> dict[str, str] | None:
    """Write one prepared volume, if it is not there; one that cannot be used gives its exclusion."""
    if path.is_file():
        return None
    try:
        volume = placed_scan(cohort, row, config.grid)[0].normalised(config.normaliser)
    except MemoryError:
        raise
    except Exception as error:  # whatever is wrong with one file, the others go on
        reason = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        return _exclusion(row, reason, "mend or fetch the file again, or remove the row")
    with atomic_path(path) as temporary:
        np.save(temporary, volume.astype(np.float16))
    return None


def _assemble(folder: Path, pieces: list[Path], networks: np.ndarray, content: dict) -> None:
    """One array of all volumes, and the record last."""
    (folder / "pairs.json").unlink(missing_ok=True)  # from here until it is written again there are no pairs
    with atomic_path(folder / "volumes.npy") as temporary:
        shape = (len(pieces), *np.load(pieces[0], mmap_mode="r").shape)
        volumes = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
        for number, piece in enumerate(pieces):
            volumes[number] = np.load(piece)
        volumes.flush()
    with atomic_path(folder / "networks.npy") as temporary:
        np.save(temporary, networks)
    content["bytes"] = {name: (folder / name).stat().st_size for name in ARRAYS}
    atomic_write_json(folder / "pairs.json", content)
    for path in (folder / "pieces").glob("*"):
        path.unlink(missing_ok=True)


def _exclusion(row: Mapping, reason: str, fix: str) -> dict[str, str]:
    values = (row["subject"], row["session"], row["site"], row["t1w"], reason, fix)
    return dict(zip(EXCLUDED_COLUMNS, map(str, values), strict=True))


def _key(cohort: Manifest, row: Mapping, config: PairConfig) -> str:
    """Changes with the row's files and the settings."""
    stamps = []
    for column in ("t1w", "t1w_mask"):
        path = cohort.root / row[column] if row[column] else None
        status = path.stat() if path is not None and path.is_file() else None
        stamps.append([row[column], status.st_size, status.st_mtime_ns] if status else [row[column]])
    return _digest([row["subject"], row["session"], stamps, config.content()])[:32]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def _plain(value: object) -> object:
    """A cell as JSON takes it: text, or a number, or None where the number is missing."""
    if isinstance(value, str | bool):
        return value
    return None if pd.isna(value) else float(value)
