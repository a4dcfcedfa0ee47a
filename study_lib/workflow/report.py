"""The report: one page with every exhibit, rebuilt after each notebook from what lies in the output folders.

The folder `report/` holds all that the page links to, so that it can be sent on its own.
"""

import base64
import csv
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study_lib.files import atomic_path, atomic_write_text
from study_lib.workflow.report_page import page
from study_lib.workflow.story import Notebook, Story


@dataclass(frozen=True)
class Chapter:
    """What one notebook left: its record and metrics when it ended well, its failure when it did not."""

    notebook: Notebook
    folder: Path
    record: dict[str, Any] | None
    metrics: dict[str, float]
    failure: dict[str, Any] | None

    @property
    def state(self) -> str:
        """ "done", "failed" or "not run"."""
        if self.failure is not None:
            return "failed"
        return "not run" if self.record is None else "done"


def build_report(story: Story, root: str | Path) -> Path:
    """Write report/index.html under `root`, the output folder of one profile; gives its path."""
    root = Path(root)
    chapters = [read_chapter(root / notebook.name, notebook) for notebook in story.notebooks]
    sections = [_section(chapter, root / "report") for chapter in chapters]
    index = root / "report" / "index.html"
    atomic_write_text(index, page(_summary(chapters, root.name), sections))
    return index


def read_chapter(folder: Path, notebook: Notebook) -> Chapter:
    """Read what lies in a notebook's output folder; a run counts when both its record and its metrics do."""
    metrics, record = _json(folder / "metrics.json"), _json(folder / "run.json")
    complete = metrics is not None and record is not None
    return Chapter(
        notebook,
        folder,
        record if complete else None,
        metrics["metrics"] if complete else {},
        _json(folder / "failure.json"),
    )


def _json(path: Path) -> Any:
    """The content of a file, or None where it is absent or being replaced by another job."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _summary(chapters: list[Chapter], profile: str) -> dict[str, str]:
    """What ran, in the order of reading."""
    records = [chapter.record for chapter in chapters if chapter.record]
    states = [chapter.state for chapter in chapters]
    failed = f", {states.count('failed')} failed" if "failed" in states else ""
    return {
        "Profile": profile,
        "Cohort": _distinct(record["cohort"] for record in records),
        "Notebooks": f"{states.count('done')} of {len(states)} done{failed}",
        "Commit": _distinct(map(_commit, records)),
        "Phantom version": _distinct(record["phantom_version"] for record in records),
        "Computed for": f"{sum(record['wall_seconds'] for record in records) / 60:.1f} min",
        "Machine": _distinct(f"{record['platform']}, {record['cores']} cores" for record in records),
        "Python": _distinct(record["python"] for record in records),
        "Page written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _commit(record: dict[str, Any]) -> str:
    return record["commit"] + (" with local changes" if record["dirty"] is True else "")


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "none yet"


def _section(chapter: Chapter, report: Path) -> dict[str, Any]:
    """One notebook as the page shows it; files it links to are copied beside the page."""
    name, record = chapter.notebook.name, chapter.record or {}
    html, log = report / name / f"{name}.html", chapter.folder / f"{name}.log"
    links = {"executed notebook": f"{name}/{name}.html"} if html.is_file() else {}
    if log.is_file():
        links["log"] = _copied(log, report, name)
    return {
        "name": name,
        "heading": f"{chapter.notebook.number} {chapter.notebook.title}",
        "question": chapter.notebook.question,
        "state": chapter.state,
        "facts": _facts(record),
        "error": (chapter.failure or {}).get("error", ""),
        "exhibits": [_exhibit(chapter, exhibit, report) for exhibit in record.get("exhibits", [])],
        "metrics": chapter.metrics,
        "links": links,
    }


def _facts(record: dict[str, Any]) -> dict[str, str]:
    if not record:
        return {}
    return {
        "cohort": record["cohort"],
        "seed": str(record["seed"]),
        "time": f"{record['wall_seconds']:.0f} s",
        "peak memory": f"{record['peak_memory_mib']:.0f} MiB",
        "begun": record["started"].replace("T", " ").replace("+00:00", " UTC"),
    }


def _exhibit(chapter: Chapter, exhibit: dict[str, Any], report: Path) -> dict[str, Any]:
    """An exhibit with its picture or rows inside, and links to its files."""
    name, first = chapter.notebook.name, chapter.folder / exhibit["files"][0]
    present = [chapter.folder / file for file in exhibit["files"] if (chapter.folder / file).is_file()]
    content: dict[str, Any] = {"picture": "", "rows": []}
    if first.is_file() and exhibit["kind"] == "figure":
        content["picture"] = "data:image/png;base64," + base64.b64encode(first.read_bytes()).decode("ascii")
    elif first.is_file():
        with open(first, encoding="utf-8", newline="") as file:
            content["rows"] = list(csv.reader(file))
    links = {path.suffix[1:].upper(): _copied(path, report, name) for path in present}
    return exhibit | content | {"links": links, "cohort": chapter.record["cohort"]}


def _copied(path: Path, report: Path, name: str) -> str:
    """Copy a file into the report's folder; gives the link to it from the page."""
    with atomic_path(report / name / path.name) as temporary:
        shutil.copy2(path, temporary)
    return f"{name}/{path.name}"
