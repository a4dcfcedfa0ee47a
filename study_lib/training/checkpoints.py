"""Checkpoints that are whole or not there, whatever ends the process.

A folder belongs to one training run; one process writes (with several ranks the first), any may read.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor

from study_lib.files import atomic_path
from study_lib.training.tensor_file import DamagedFile, read_tensor_file, size_of, write_tensor_file

FORMAT = "1"
STEP_FILE = re.compile(r"step-(\d{8,})\.safetensors")
PARTIAL_FILE = re.compile(r"\.partial-(\d+)-.*\.safetensors")
MIB = 2**20


class CheckpointError(OSError):
    """A checkpoint could not be written, or one asked for by name could not be read."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: `step` is the number of finished steps, `tensors` lie on the CPU, `state` is plain JSON."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path


class Checkpoints:
    """The checkpoints in one folder; the newest `keep` are kept, named ones always."""

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep: expected at least 1 checkpoint; got {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self._damaged: set[Path] = set()

    def save(self, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> Path:
        """Write `step-<step>.safetensors`, durably, then remove the oldest; `CheckpointError` leaves all as it was.

        `state` holds str, int, float (also NaN and infinity), bool, None, lists, and dicts with str keys.
        """
        later = [path.name for number, path in self._steps() if number > step and path not in self._damaged]
        if later:
            raise ValueError(
                f"{self.folder} holds {', '.join(later)}, later than step {step}: they belong to another run; "
                "continue that one from latest(), or choose an empty folder"
            )
        path = self._write(f"step-{step:08d}", step, tensors, state)
        self._damaged.discard(path)
        self._prune()
        return path

    def save_as(self, name: str, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> Path:
        """Write `<name>.safetensors`, such as `best`, in place of the one before."""
        return self._write(_checked(name), step, tensors, state)

    def latest(self) -> Checkpoint | None:
        """The newest intact checkpoint; damaged ones are named in a warning. None where there is none.

        What is damaged is removed by the next `save`.
        """
        for _, path in reversed(self._steps()):
            try:
                return self._read(path)
            except FileNotFoundError:  # the writer has removed it since
                continue
            except DamagedFile as error:
                self._damaged.add(path)
                warnings.warn(f"damaged checkpoint, the one before is used: {error}", RuntimeWarning, stacklevel=2)
        if self._damaged:
            message = f"no intact checkpoint is left in {self.folder}: training starts from the beginning"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None

    def has(self, name: str) -> bool:
        """Whether `save_as` has written this name."""
        return (self.folder / f"{_checked(name)}.safetensors").is_file()

    def load(self, name: str) -> Checkpoint:
        """The checkpoint that `save_as` wrote under `name`."""
        path = self.folder / f"{_checked(name)}.safetensors"
        try:
            return self._read(path)
        except FileNotFoundError as error:
            there = sorted(file.name for file in self.folder.glob("*.safetensors")) or "no checkpoint"
            raise FileNotFoundError(f"expected the checkpoint {path}; the folder holds {there}") from error
        except DamagedFile as error:
            raise CheckpointError(f"damaged checkpoint {error}; delete it and train again, or copy it anew") from error

    def _read(self, path: Path) -> Checkpoint:
        try:
            tensors, words = read_tensor_file(path)
        except PermissionError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}; make it readable for this user") from error
        if words.get("format") != FORMAT or not {"step", "state"} <= set(words):
            raise DamagedFile(f"{path}: expected metadata of a checkpoint of format {FORMAT}; got {sorted(words)}")
        named = STEP_FILE.fullmatch(path.name)
        if named and int(named[1]) != int(words["step"]):
            raise DamagedFile(f"{path}: expected step {int(named[1])}, as the name says; got step {words['step']}")
        return Checkpoint(int(words["step"]), tensors, json.loads(words["state"]), path)

    def _write(self, stem: str, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> Path:
        _check_plain(state, "state")
        words = {"format": FORMAT, "step": str(int(step)), "state": json.dumps(state, sort_keys=True)}
        path = self.folder / f"{stem}.safetensors"
        try:
            self._remove_stale()
            with atomic_path(path) as temporary:
                write_tensor_file(temporary, tensors, words)
            _sync_folder(self.folder)
        except OSError as error:
            raise self._failure(path, error, size_of(tensors, words)) from error
        return path

    def _failure(self, path: Path, error: OSError, needed: int) -> CheckpointError:
        place = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.is_dir())
        good = [file.name for _, file in self._steps() if file not in self._damaged]
        failure = CheckpointError(
            f"cannot write checkpoint {path}: {error.strerror or error}; it needs {needed / MIB:.1f} MiB, "
            f"{shutil.disk_usage(place).free / MIB:.1f} MiB are free. "
            f"Kept from before: {good[-1] if good else 'nothing'}. "
            "Free space, lift the limit (quota, ulimit -f) or make the folder writable, then start again"
        )
        failure.errno = error.errno
        return failure

    def _steps(self) -> list[tuple[int, Path]]:
        """Numbered checkpoints, oldest first."""
        found = ((STEP_FILE.fullmatch(path.name), path) for path in self.folder.glob("step-*"))
        return sorted((int(match[1]), path) for match, path in found if match)

    def _prune(self) -> None:
        paths = [path for _, path in self._steps()]
        good = [path for path in paths if path not in self._damaged]
        for path in set(paths) - set(good[-self.keep :]):
            path.unlink(missing_ok=True)
        self._damaged.clear()

    def _remove_stale(self) -> None:
        """Remove what writers that were killed have left, so that it does not fill the disk."""
        for path in self.folder.glob(".partial-*"):
            match = PARTIAL_FILE.fullmatch(path.name)
            if match and not _is_being_written(path, int(match[1])):
                path.unlink(missing_ok=True)


def _is_being_written(path: Path, writer: int) -> bool:
    """Whether the process of that number lives and is old enough to have written it: numbers are given again."""
    if writer == os.getpid():
        return False
    try:
        return psutil.Process(writer).create_time() <= path.stat().st_mtime
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def _checked(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name.startswith("step-"):
        raise ValueError(f"name: expected lower case letters, digits, '-', '_', not 'step-…'; got {name!r}")
    return name


def _check_plain(value: Any, where: str) -> None:
    """Refuse what JSON would change in silence (keys that are numbers) or has no word for."""
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"{where}: expected text as keys; got {wrong[:5]!r}")
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{where}: expected plain JSON; got {type(value).__name__}: tensors go into `tensors`")


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
