"""The report: one page with every exhibit, rebuilt after each notebook from what lies in the output folders.

The folder `report/` holds all that the page links to, so that it can be sent on its own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from study_lib.files import atomic_write_text, read_json
from study_lib.workflow.paper_exhibits import STUDIES, PaperExhibit, PaperStudy
from study_lib.workflow.report_exhibits import copied, exhibits_of, rows_of, viewers_of
from study_lib.workflow.report_page import page
from study_lib.workflow.story import Notebook, Story

RUNNING = "running.json"  # lies in a notebook's folder while its job is at work


@dataclass(frozen=True)
class Chapter:
    """What one notebook left: its record and metrics when it ended well, its failure when it did not."""

    notebook: Notebook
    folder: Path
    record: dict[str, Any] | None
    metrics: dict[str, float]
    failure: dict[str, Any] | None
    running: dict[str, Any] | None = None

    @property
    def state(self) -> str:
        """ "running", "done", "failed" or "not run"."""
        if self.running is not None:
            return "running"
        if self.failure is not None:
            return "failed"
        return "not run" if self.record is None else "done"


def build_report(story: Story, root: str | Path) -> Path:
    """Write report/index.html under `root`, the output folder of one profile; gives its path."""
    root = Path(root)
    report = root / "report"
    chapters = [read_chapter(root / notebook.name, notebook) for notebook in story.notebooks]
    found = [exhibits_of(chapter.record or {}, chapter.folder, report) for chapter in chapters]
    studies = [study for study in (_study(study, chapters, found) for study in STUDIES) if study["exhibits"]]
    places = {exhibit["key"]: entry for study in studies for entry in study["exhibits"] for exhibit in entry["ours"]}
    sections = [_section(chapter, own, report, places) for chapter, own in zip(chapters, found, strict=True)]
    atomic_write_text(
        report / "index.html", page(_summary(chapters, root.name), _warnings(chapters, root.name), studies, sections)
    )
    return report / "index.html"


def read_chapter(folder: Path, notebook: Notebook) -> Chapter:
    """Read what lies in a notebook's output folder; a run counts when both its record and its metrics do."""
    metrics, record = read_json(folder / "metrics.json"), read_json(folder / "run.json")
    complete = metrics is not None and record is not None
    return Chapter(
        notebook,
        folder,
        record if complete else None,
        metrics["metrics"] if complete else {},
        read_json(folder / "failure.json"),
        read_json(folder / RUNNING),
    )


def _summary(chapters: list[Chapter], profile: str) -> dict[str, str]:
    """What ran, in the order of reading."""
    records = [chapter.record for chapter in chapters if chapter.record]
    states = [chapter.state for chapter in chapters]
    others = "".join(f", {states.count(state)} {state}" for state in ("failed", "running") if state in states)
    return {
        "Profile": profile,
        "Cohort": _distinct(record["cohort"] for record in records),
        "Notebooks": f"{states.count('done')} of {len(states)} done{others}",
        "Commit": _distinct(map(_commit, records)),
        "Phantom version": _distinct(record["phantom_version"] for record in records),
        "Computed for": f"{sum(record['wall_seconds'] for record in records) / 60:.1f} min",
        "Machine": _distinct(f"{record['platform']}, {record['cores']} cores" for record in records),
        "Python": _distinct(record["python"] for record in records),
        "Page written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _warnings(chapters: list[Chapter], profile: str) -> list[str]:
    """What a reader must know before believing a number."""
    records = [chapter.record for chapter in chapters if chapter.record]
    told = [f"{chapter.notebook.name} {chapter.state}." for chapter in chapters if chapter.state == "failed"]
    if any(record["cohort"] == "phantom" for record in records):
        told.append("The phantom is simulated: its numbers say how the methods behave, and nothing about patients.")
    if profile == "smoke":
        told.append("The profile smoke is a first look: too few subjects and steps for its numbers to mean anything.")
    if len({record["cohort"] for record in records}) > 1:
        told.append("The notebooks were run on more than one cohort.")
    if len({_commit(record) for record in records}) > 1:
        told.append("The notebooks were run at more than one commit.")
    if any(record["dirty"] is True for record in records):
        told.append("The code had changes that are in no commit.")
    for chapter in chapters:
        for name, meaning in (("excluded", "left out"), ("warnings", "kept although something about them is odd")):
            if chapter.metrics.get(name):
                told.append(f"{chapter.notebook.name}: {chapter.metrics[name]} scans {meaning}; see its tables.")
    return told


def _commit(record: dict[str, Any]) -> str:
    return record["commit"] + (" with local changes" if record["dirty"] is True else "")


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "none yet"


def _study(study: PaperStudy, chapters: list[Chapter], found: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """A study's exhibits in its own order, ours with them; those of notebooks that the story lacks are left out."""
    told = {chapter.notebook.name: chapter for chapter in chapters}
    ours = [exhibit for own in found for exhibit in own if not exhibit.get("source")]
    entries: list[dict[str, Any]] = []
    for exhibit in study.exhibits:
        own = [told[name] for name in exhibit.notebooks if name in told]
        if own:
            taken = {entry["key"] for other in entries for entry in other["ours"]}
            beside = [entry for entry in _in_order(exhibit, ours) if entry["key"] not in taken]
            entries.append(_entry(exhibit, own, beside) | {"id": f"{study.key}-{len(entries) + 1}"})
    return {"id": study.key, "title": study.title, "source": study.source, "exhibits": entries}


def _in_order(exhibit: PaperExhibit, ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    matching = [entry for pattern in exhibit.ours for entry in ours if fnmatch(entry["key"], pattern)]
    return list({entry["key"]: entry for entry in matching}.values())


def _entry(exhibit: PaperExhibit, chapters: list[Chapter], ours: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = {name: value for chapter in chapters for name, value in chapter.metrics.items()}
    cohort = _distinct(chapter.record["cohort"] for chapter in chapters if chapter.record)
    return {
        "heading": exhibit.heading,
        "note": exhibit.note,
        "printed": rows_of(exhibit.printed()) if exhibit.printed else [],
        "comparison": rows_of(exhibit.comparison(metrics, cohort)) if exhibit.comparison else [],
        "cohort": cohort,
        "ours": ours,
        "open": [(chapter.notebook.name, chapter.state) for chapter in chapters if chapter.state != "done"],
    }


def _section(
    chapter: Chapter, found: list[dict[str, Any]], report: Path, places: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """One notebook as the page shows it, less the exhibits that stand with the studies."""
    name = chapter.notebook.name
    html, log = report / name / f"{name}.html", chapter.folder / f"{name}.log"
    links = {"executed notebook": f"{name}/{name}.html"} if html.is_file() else {}
    if log.is_file():
        links["log"] = copied(log, report)
    return {
        "name": name,
        "heading": f"{chapter.notebook.number} {chapter.notebook.title}",
        "question": chapter.notebook.question,
        "state": chapter.state,
        "begun": (chapter.running or {}).get("begun", ""),
        "facts": _facts(chapter.record or {}),
        "error": (chapter.failure or {}).get("error", ""),
        "exhibits": [exhibit for exhibit in found if exhibit["key"] not in places],
        "above": [exhibit for exhibit in found if exhibit["key"] in places],
        "viewers": viewers_of(chapter.folder, report) if chapter.record else {},
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
