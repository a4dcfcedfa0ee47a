"""Which files lie in a BIDS tree and its derivatives: one row per file that a manifest may need.

Names are read by bids2table. Its `index_dataset` is not used: it returns nothing for a folder whose name has
a dot (ds000030_R1.0.5, fmriprep-23.1.3), takes brackets in a path for a pattern, remembers within a process
that a folder was empty, and leaves out the sidecars that are needed here.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from bids2table import parse_bids_entities

from study_lib.sources.values import looked_up

ENTITIES = (
    *("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part", "inv", "mod"),
    *("space", "res", "den", "hemi", "atlas", "seg", "label", "desc", "suffix", "ext", "datatype"),
)
WANTED = re.compile(r"(?:(?:T1w|bold|mask)\.nii(?:\.gz)?|(?:timeseries|regressors|sessions)\.tsv|(?:^|_)T1w\.json)$")
SUBJECT_FOLDER = re.compile(r"sub-[A-Za-z0-9]+")
# subject / session / datatype: deeper folders hold logs, transforms and surfaces.
DEPTH = 3
UNREAD_FOLDERS = frozenset({"figures", "log", "logs", "sourcedata", "code", "xfm"})


def index_tree(root: str | Path) -> pd.DataFrame:
    """Files under a data root, with BIDS entities as columns ("" where absent).

    `root` may be a BIDS data set, the output folder of fMRIPrep, or a folder of such data sets, one per site.
    Links whose content has not been fetched are files here; whether a file can be read is the manifest's
    question. The order is that of the trees (raw, then fMRIPrep's, then others) and of names within them.
    Further columns: `path` below the root; `group`, the site's folder ("" when root is the data set);
    `derived`, whether it lies under derivatives.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}: --root must be the folder that holds the data set")
    records = [record for tree, group in _trees(root) for record in _files(root, tree, group)]
    columns = ["path", "group", "derived", *ENTITIES]
    table = pd.DataFrame(records, columns=columns).astype(dict.fromkeys(columns, str) | {"derived": bool})
    return _at_their_sites(table)


def _at_their_sites(table: pd.DataFrame) -> pd.DataFrame:
    """Outputs of one fMRIPrep for all sites get the site of their subject, where it has one only."""
    sites = table[table["group"] != ""].groupby("sub")["group"].agg(["nunique", "first"])
    single = sites.loc[sites["nunique"] == 1, "first"]
    group = table["group"].where(table["group"] != "", looked_up(table["sub"], single))
    return table.assign(group=group)


def _trees(root: Path) -> list[tuple[Path, str]]:
    """The data sets under the root (raw first), each with the name of its site's folder."""
    shared = [(tree, "") for tree in _derivatives(root)]
    if _subject_folders(root):
        return [(root, ""), *shared]
    sites = [folder for folder in _folders(root) if _subject_folders(folder)]
    return [(tree, site.name) for site in sites for tree in (site, *_derivatives(site))] + shared


def _derivatives(folder: Path) -> list[Path]:
    """fMRIPrep's outputs before others, since the first of two equal files is taken."""
    inside = folder / "derivatives"
    found = [tree for tree in _folders(inside) if _subject_folders(tree)] if inside.is_dir() else []
    return sorted(found, key=lambda tree: ("fmriprep" not in tree.name.lower(), tree.name))


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if not e.name.startswith(".") and e.is_dir())


def _subject_folders(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if SUBJECT_FOLDER.fullmatch(path.name)]


def _files(root: Path, tree: Path, group: str) -> Iterator[dict[str, object]]:
    derived = tree != root and tree.parent.name == "derivatives"
    shared = [tree / name for name in sorted(os.listdir(tree)) if name.endswith("T1w.json")]
    for path in (*shared, *(file for folder in _subject_folders(tree) for file in _walk(folder, DEPTH))):
        # The folder decides the datatype, the name the rest; only the tail is parsed, so that the root's own
        # name can never be taken for a subject.
        record = dict.fromkeys(ENTITIES, "") | parse_bids_entities(path.relative_to(tree))
        yield {**record, "path": path.relative_to(root).as_posix(), "group": group, "derived": derived}


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if WANTED.search(entry.name):
                yield Path(entry.path)
            elif depth > 1 and "." not in entry.name and entry.name not in UNREAD_FOLDERS and entry.is_dir():
                yield from _walk(Path(entry.path), depth - 1)
