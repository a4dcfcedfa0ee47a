"""SHA-256 of the files that a manifest names."""

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from study_lib.files import sha256_of
from study_lib.sources.values import looked_up

HASHED = ("t1w", "bold", "time_series")
# git-annex names content by its hash: SHA256E-s7994169--9b53….nii.gz
ANNEX_KEY = re.compile(r"SHA256E?(?:-[smSC]\d+)*--(?P<digest>[0-9a-f]{64})(?:\.|$)")
LONGEST_POINTER = 32 * 1024


def with_checksums(table: pd.DataFrame, root: Path, progress: bool = False) -> pd.DataFrame:
    """The manifest's table with its checksum columns filled; empty where the content is not here."""
    paths = pd.unique(table[list(HASHED)].to_numpy().ravel())
    digests = content_digests(root, [path for path in paths if path], progress)
    return table.assign(**{f"{name}_sha256": looked_up(table[name], digests) for name in HASHED})


def content_digests(root: Path, paths: Iterable[str], progress: bool = False) -> dict[str, str]:
    """The digest of each path: by git-annex's key if there is one, else of the content, read in parallel."""
    paths = list(paths)
    # hashlib lets go of the interpreter's lock, so that threads do read and hash side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda path: _digest(root / path), paths)
        return dict(zip(paths, tqdm(found, "checksums", len(paths), disable=not progress), strict=True))


def _digest(path: Path) -> str:
    key = _annex_key(path)
    match = ANNEX_KEY.match(key)
    if match:
        return match["digest"]
    pointer = key and not path.is_symlink()
    return sha256_of(path) if path.is_file() and not pointer else ""


def _annex_key(path: Path) -> str:
    """The key of an annexed file: of a link, or of the small text file that stands in for it; else ""."""
    if path.is_symlink():
        target = os.readlink(path)
        return os.path.basename(target) if "annex/objects/" in target else ""
    if path.is_file() and path.stat().st_size <= LONGEST_POINTER:
        first = path.read_bytes().split(b"\n", 1)[0]
        return os.path.basename(first.decode("utf-8", "replace")) if first.startswith(b"/annex/objects/") else ""
    return ""
