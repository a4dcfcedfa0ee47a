"""Files with regional series, anywhere under a data root, whose names carry the subject's id."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from study_lib.sources.curation import without_acquisition
from study_lib.sources.problems import Problems
from study_lib.sources.values import looked_up


def find_series(root: Path, patterns: list[re.Pattern[str]], problems: Problems) -> pd.DataFrame:
    """One path per subject (the group `subject`); earlier patterns count first, a warning names others."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in _names(root):
        for rank, pattern in enumerate(patterns):
            match = pattern.fullmatch(path.rsplit("/", 1)[-1])
            if match:
                found.setdefault(match["subject"], []).append((rank, path))
    for subject, candidates in found.items():
        candidates.sort()
        others = ", ".join(path for _, path in candidates[1:])
        if others:
            reason = f"{len(candidates)} files could be the time_series; not used: {others}"
            fix = "keep one pipeline's series under --root, so that all subjects have the same"
            problems.warn(subject, reason, fix, column="time_series", file=candidates[0][1])
    records = [(subject, candidates[0][1]) for subject, candidates in sorted(found.items())]
    return pd.DataFrame(records, columns=["subject", "time_series"], dtype=str)


def with_series(scans: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Scans of a BIDS tree with their subjects' series: at the first session, or in a row of its own."""
    first = ~scans["subject"].duplicated() & (scans["time_series"] == "")
    paths = series.set_index("subject")["time_series"]
    filled = scans.assign(time_series=scans["time_series"].where(~first, looked_up(scans["subject"], paths)))
    alone = series[~series["subject"].isin(scans["subject"])]
    return pd.concat([filled, without_acquisition(alone)], ignore_index=True).fillna({"group": "", "session": ""})


def _names(root: Path) -> Iterator[str]:
    """Paths of files below the root; BIDS subjects and hidden folders hold no such series: not entered."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "sub-")))
        below = os.path.relpath(folder, root)
        yield from (name if below == "." else f"{below}/{name}" for name in sorted(files))
