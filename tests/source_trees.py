"""Small data sets for the tests of `study_lib.sources`, made as code, and real ones unpacked."""

import json
import tarfile
from pathlib import Path


def write_tree(root: Path, files: dict[str, object]) -> Path:
    """Write files below `root`: a dict as JSON, a list as the rows of a TSV, text as it stands."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content)
        elif isinstance(content, list):
            content = "".join("\t".join(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return root


def empty_files(*names: str) -> dict[str, object]:
    """Files whose content does not matter; each gets its own, as no two scans are alike."""
    return dict(zip(names, names, strict=True))


def unpack(archive: Path, folder: Path) -> Path:
    """The one data set inside a real archive."""
    # The links into git-annex dangle on purpose. Python 3.11 has the filter from its fourth release on.
    checked = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **checked)
    return next(path for path in sorted(folder.iterdir()) if path.is_dir())
