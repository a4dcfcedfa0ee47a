"""One run of one notebook: its profile, its randomness, its folder, and the record it leaves.

In a notebook:

    run = start("01_data_curation", profile, seed, output_root, {"manifest": manifest}, config)
    run.save_figure(figure, "montage", "One subject of every site.")
    run.record({"subjects": 32}, cohort="phantom")
"""

import hashlib
import json
import math
import numbers
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study_lib.exhibits import write_figure, write_table
from study_lib.files import atomic_write_json, sha256_of
from study_lib.memory import PeakMemory
from study_lib.profiles import check_profile
from study_lib.provenance import REPOSITORY, git_state, machine, package_versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass
class Run:
    """Made by `start`. Everything it writes lies in `folder`."""

    notebook: str
    profile: str
    seed: int
    output_root: Path
    parameters: dict[str, Any]
    config: Any = None
    memory: PeakMemory = field(default_factory=PeakMemory)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.monotonic)
    _exhibits: dict[str, dict[str, Any]] = field(default_factory=dict)
    _timed: dict[str, tuple[float, float]] = field(default_factory=dict)  # name -> count, seconds

    @property
    def folder(self) -> Path:
        """outputs/<profile>/<notebook>/"""
        return self.output_root / self.profile / self.notebook

    @property
    def manifest(self) -> Path:
        """The manifest of scans: the one given as a parameter, else that of the built-in cohort."""
        given = self.parameters.get("manifest")
        built_in = self.output_root / self.profile / "phantom" / "manifest.csv"
        path = Path(given).expanduser() if given else built_in
        if not path.is_file():
            hint = "check the parameter `manifest`" if given else f"make it with `{self._command('01')}`"
            raise FileNotFoundError(f"manifest: expected a CSV at {path}; {hint}")
        return path

    def product(self, notebook: str, name: str) -> Path:
        """A file or folder that another notebook left; where it is missing, the error says what makes it."""
        path = self.output_root / self.profile / notebook / name
        if not path.exists():
            command = self._command(notebook.split("_")[0])
            raise FileNotFoundError(f"expected {path}, which {notebook} writes; make it with `{command}`")
        return path

    def rng(self, name: str) -> np.random.Generator:
        """A generator of its own for each purpose: adding a purpose changes no other's numbers."""
        key = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:16], "big")
        return np.random.default_rng([self.seed, key])

    def save_figure(self, figure: "Figure", name: str, caption: str = "", title: str = "", source: str = "") -> None:
        """Write figures/<name>.png and .pdf. The caption is read aloud where the picture cannot be seen.

        `source` says whose numbers these are where they are not those of the cohort: "the paper".
        """
        files = write_figure(figure, self.folder / "figures", name)
        words = {"title": title or _title_of(figure) or _words(name), "caption": caption, "source": source}
        self._exhibit("figure", name, files, words)

    def save_table(self, table: "DataFrame", name: str, caption: str = "", title: str = "", source: str = "") -> None:
        """Write tables/<name>.csv and .tex; `source` as for figures."""
        files = write_table(table, self.folder / "tables", name, caption or title or _words(name))
        self._exhibit("table", name, files, {"title": title or _words(name), "caption": caption, "source": source})

    @contextmanager
    def timing(self, name: str, count: float) -> Iterator[None]:
        """Time a block that works on `count` images or steps; blocks of one name add up."""
        begin = time.monotonic()
        yield
        before_count, before_seconds = self._timed.get(name, (0.0, 0.0))
        self._timed[name] = (before_count + count, before_seconds + time.monotonic() - begin)

    def record(self, metrics: dict[str, float], cohort: str) -> None:
        """Write run.json, then metrics.json: its presence says that the run is complete."""
        plain = plain_metrics(metrics)
        if not cohort:
            raise ValueError("cohort: expected the name of the data, such as 'phantom'; got an empty text")
        identity = {"cohort": cohort, "profile": self.profile, "seed": self.seed}
        record = {"notebook": self.notebook, **identity, **self._circumstances()}
        atomic_write_json(self.folder / "run.json", record)
        atomic_write_json(self.folder / "metrics.json", {**identity, "metrics": plain})
        self.memory.stop()

    def _circumstances(self) -> dict[str, Any]:
        """All that may differ between two runs with the same metrics."""
        return {
            "parameters": self.parameters,
            "config": _plain(self.config),
            **git_state(),
            **_cohort_identity(self),
            "packages": package_versions(),
            **machine(),
            "started": self.started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.monotonic() - self._clock, 2),
            "peak_memory_mib": self.memory.mib(),
            "timings": {name: count / max(seconds, 1e-9) for name, (count, seconds) in self._timed.items()},
            "exhibits": list(self._exhibits.values()),
        }

    def _exhibit(self, kind: str, name: str, files: list[Path], words: dict[str, str]) -> None:
        places = [path.relative_to(self.folder).as_posix() for path in files]
        self._exhibits[f"{kind} {name}"] = {"kind": kind, "name": name, **words, "files": places}

    def _command(self, number: str) -> str:
        return f"./run figures --profile {self.profile} --until {number}"


def start(
    notebook: str,
    profile: str,
    seed: int = 0,
    output_root: str | Path = "",
    parameters: dict[str, Any] | None = None,
    config: Any = None,
) -> Run:
    """Begin a run; an empty `output_root` is the project's `outputs` folder.

    The previous metrics.json goes away now, so that a run that fails leaves none.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"seed: expected a whole number from 0 on; got {seed!r}")
    root = Path(output_root).expanduser().resolve() if output_root else REPOSITORY / "outputs"
    given = {"profile": profile, "seed": int(seed), "output_root": str(output_root), **(parameters or {})}
    run = Run(notebook, check_profile(profile), int(seed), root, given, config)
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "run.json", "failure.json"):
        (run.folder / name).unlink(missing_ok=True)
    return run


def plain_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics as JSON takes them; every entry that is no finite number is named."""
    problems = [problem for name, value in metrics.items() if (problem := _problem(name, value))]
    if problems:
        raise ValueError("metrics: expected {name: finite number}; got " + "; ".join(problems))
    return {name: _plain_number(value) for name, value in metrics.items()}


def _plain_number(value: Any) -> int | float:
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _problem(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return f"the name {name!r} (lower case letters, digits, underscores)"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return f"{name} = {value!r} ({type(value).__name__})"
    return "" if math.isfinite(value) else f"{name} = {float(value)}"


def _cohort_identity(run: Run) -> dict[str, Any]:
    """Checksum of the manifest, and the version of the built-in cohort where its sidecar states one."""
    try:
        manifest = run.manifest
    except FileNotFoundError:  # not every notebook reads it
        return {"manifest_checksum": None, "phantom_version": None}
    sidecar = manifest.with_suffix(".json")
    facts = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {}
    return {"manifest_checksum": sha256_of(manifest), "phantom_version": facts.get("PhantomVersion")}


def _plain(config: Any) -> Any:
    """A config as JSON: dataclasses become mappings, everything else that JSON lacks becomes text."""
    content = asdict(config) if is_dataclass(config) else config
    return json.loads(json.dumps(content, default=_plain_value))


def _plain_value(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _title_of(figure: "Figure") -> str:
    return figure.get_suptitle() or next((axes.get_title() for axes in figure.axes if axes.get_title()), "")


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
