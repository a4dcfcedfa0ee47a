"""What the report shows of one notebook: its figures and tables from the output folder, copied beside the page."""

import base64
import csv
import io
import shutil
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study_lib.files import atomic_path, atomic_write_text

if TYPE_CHECKING:
    import pandas as pd

FRAME = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0; background: #fff; }}
iframe {{ display: block; border: 0; width: 100%; height: 100vh; }}</style>
</head>
<body>{frame}</body>
</html>
"""


def exhibits_of(record: dict[str, Any], folder: Path, report: Path) -> list[dict[str, Any]]:
    """All exhibits that the record of a run names, in its order, each with its picture or rows inside."""
    return [_exhibit(exhibit, record["cohort"], folder, report) for exhibit in record.get("exhibits", [])]


def _exhibit(exhibit: dict[str, Any], cohort: str, folder: Path, report: Path) -> dict[str, Any]:
    first = folder / exhibit["files"][0]
    present = [folder / file for file in exhibit["files"] if (folder / file).is_file()]
    content: dict[str, Any] = {"picture": b"", "rows": []}
    if first.is_file() and exhibit["kind"] == "figure":
        content["picture"] = first.read_bytes()
    elif first.is_file():
        with open(first, encoding="utf-8", newline="") as file:
            content["rows"] = list(csv.reader(file))
    links = {path.suffix[1:].upper(): copied(path, report) for path in present}
    key = f"{folder.name}/{exhibit['files'][0].rpartition('.')[0]}"
    return exhibit | content | {"links": links, "cohort": cohort, "key": key, "id": key.replace("/", "-")}


def viewers_of(folder: Path, report: Path) -> dict[str, str]:
    """Interactive pages that a notebook left in its folder, by title, beside the page."""
    return {_title(path): _viewer(path, report) for path in sorted(folder.glob("*.html"))}


def _title(path: Path) -> str:
    return path.stem.replace("_", " ").capitalize()


def _viewer(path: Path, report: Path) -> str:
    """nilearn saves a bare frame of fixed size; it becomes a page with a name that fills any screen."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("<iframe "):
        return copied(path, report)
    named = text.replace("<iframe ", f'<iframe title="{escape(_title(path))}" ', 1)
    atomic_write_text(report / path.parent.name / path.name, FRAME.format(title=escape(_title(path)), frame=named))
    return f"{path.parent.name}/{path.name}"


def copied(path: Path, report: Path) -> str:
    """Copy a file of a notebook's folder into the report's, unless it is there; gives the link to it from the page."""
    name = path.parent.name if path.parent.name not in ("figures", "tables") else path.parent.parent.name
    place, source = report / name / path.name, path.stat()
    there = place.stat() if place.is_file() else None
    if there is None or (there.st_size, there.st_mtime_ns) != (source.st_size, source.st_mtime_ns):
        with atomic_path(place) as temporary:
            shutil.copy2(path, temporary)
    return f"{name}/{path.name}"


def rows_of(table: "pd.DataFrame") -> list[list[str]]:
    """A table as the page takes it: rows of text, the column names first."""
    return list(csv.reader(io.StringIO(table.to_csv(index=False))))


def data_uri(png: bytes) -> str:
    """The picture as text that stands in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height, which every PNG states in its first bytes; (0, 0) for what is none."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        return 0, 0
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
