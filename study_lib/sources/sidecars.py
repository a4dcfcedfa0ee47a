"""JSON sidecars of T1w volumes, with BIDS inheritance: a nearer file overrules a farther one.

bids2table's `load_bids_metadata` passes over a broken sidecar in silence, stops at one that has not been
fetched, and remembers the content of files that have changed since; here each such file is named.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from study_lib.sources.acquisition import Acquisition, acquisition
from study_lib.sources.problems import Problems
from study_lib.sources.tree import ENTITIES

# Of a sidecar's name these say which images it is about; an image must have all of them.
ABOUT = tuple(name for name in ENTITIES if name not in ("ext", "datatype"))


@dataclass
class SidecarReader:
    """Reads the sidecars in an index of files; `faults` maps a file that cannot be read to the reason."""

    root: Path
    files: pd.DataFrame
    faults: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        listed = self.files[(self.files["suffix"] == "T1w") & (self.files["ext"] == ".json")]
        self._contents: dict[str, dict] = {}
        self._by_folder: dict[str, list[dict[str, str]]] = {}
        for record in listed.to_dict("records"):
            self._by_folder.setdefault(str(PurePosixPath(record["path"]).parent), []).append(record)

    def metadata(self, image: dict[str, str]) -> dict:
        """What the sidecars say of an image, given as a record of the index."""
        merged: dict = {}
        for sidecar in self.applicable(image):
            merged.update(self._load(sidecar))
        return merged

    def applicable(self, image: dict[str, str]) -> list[str]:
        """Paths of an image's sidecars, the farthest first."""
        folders = reversed(PurePosixPath(image["path"]).parents)
        candidates = [record for folder in folders for record in self._by_folder.get(str(folder), [])]
        matching = [record for record in candidates if _is_about(record, image)]
        return [record["path"] for record in matching]

    def _load(self, path: str) -> dict:
        if path not in self._contents:
            self._contents[path] = self._parse(path)
        return self._contents[path]

    def _parse(self, path: str) -> dict:
        try:
            content = json.loads((self.root / path).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            self.faults[path] = "its content is not here (a link that has not been fetched)"
        except (ValueError, OSError) as error:
            self.faults[path] = f"it cannot be read as JSON: {error}"
        else:
            if isinstance(content, dict):
                return content
            self.faults[path] = f"expected a JSON object, got {type(content).__name__}"
        return {}


def _is_about(sidecar: dict[str, str], image: dict[str, str]) -> bool:
    return all(sidecar[name] in ("", image[name]) for name in ABOUT)


def scan_acquisitions(scans: pd.DataFrame, files: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The acquisition facts of each scan's T1w, one row per row of `scans`."""
    reader = SidecarReader(problems.root, files)
    images = {record["path"]: record for record in files[files["path"].isin(scans["source"])].to_dict("records")}
    facts = [
        acquisition(reader.metadata(images[path])) if path in images else Acquisition() for path in scans["source"]
    ]
    fix = "correct the JSON file beside the T1w, whose times BIDS wants in seconds"
    for scan, fact in zip(scans.itertuples(), facts, strict=True):
        for column, doubt in fact.doubts:
            place = {"session": scan.session, "column": column, "file": scan.source}
            problems.warn(scan.subject, doubt, fix, **place)
    for path, reason in reader.faults.items():
        problems.warn("", f"sidecar not used: {reason}", f"`datalad get` or mend {path}", column="vendor", file=path)
    names = [name for name in Acquisition.__dataclass_fields__ if name != "doubts"]
    columns = {name: [getattr(fact, name) for fact in facts] for name in names}
    return pd.DataFrame(columns, index=scans.index)
