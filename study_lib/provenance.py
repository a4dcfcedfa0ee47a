"""Where a result comes from: code version, package versions, machine."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
DISTRIBUTION = "brain-mri-studies"


def git_state(root: Path = REPOSITORY) -> dict[str, Any]:
    """The commit that `root` is at, and whether tracked files differ from it; "unknown" outside git."""
    top, commit, changes = (
        _git(root, *words)
        for words in (
            ("rev-parse", "--show-toplevel"),
            ("rev-parse", "HEAD"),
            ("status", "--porcelain", "--untracked-files=no"),
        )
    )
    if top is None or commit is None or Path(top).resolve() != root.resolve():
        return {"commit": "unknown", "dirty": "unknown"}
    return {"commit": commit, "dirty": "unknown" if changes is None else bool(changes)}


def _git(root: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that the project names in pyproject.toml, as installed here."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    names = (re.match(r"[A-Za-z0-9._-]+", line).group() for line in required if "extra ==" not in line)
    return {name: _version(name) for name in sorted(names)}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, Any]:
    """Python, operating system and the cores this process may use."""
    return {"python": sys.version.split()[0], "platform": platform.platform(), "cores": available_cores()}


def available_cores() -> int:
    """Cores this process may use, which on a shared machine can be fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
