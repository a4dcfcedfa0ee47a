"""A functional run and the files that belong to it, found by fMRIPrep's names."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.volumes import BoldHeader

PLAUSIBLE_REPETITION_S = (0.2, 10.0)


@dataclass(frozen=True)
class Run:
    """BOLD in MNI space, its brain mask, and its confounds where there are any."""

    bold: Path
    mask: Path | None
    confounds: Path | None


def runs_of(bold: str | Path, confounds: str | Path | None = None, mask: str | Path | None = None) -> list[Run]:
    """This run and its siblings `run-1`, `run-2` ... of the same session, in their order.

    `confounds` and `mask` are this run's; the siblings' are found beside them.
    """
    bold = Path(bold)
    named = Run(bold, Path(mask) if mask else mask_of(bold), Path(confounds) if confounds else confounds_of(bold))
    others = [path for path in _siblings(bold) if path != bold]
    runs = [named, *(Run(path, mask_of(path), confounds_of(path)) for path in others)]
    return sorted(runs, key=lambda run: _run_number(run.bold))


def mask_of(bold: Path) -> Path | None:
    """The brain mask on the grid of the run."""
    stem = _stem(bold)
    if not stem.endswith("_desc-preproc_bold"):
        return None
    masks = (bold.with_name(stem.replace("_desc-preproc_bold", "_desc-brain_mask") + e) for e in (".nii.gz", ".nii"))
    return next((path for path in masks if path.is_file()), None)


def confounds_of(bold: Path) -> Path | None:
    """The run's confounds table, by the name of either era."""
    stem = re.sub(r"_(space|res|desc)-[A-Za-z0-9]+", "", _stem(bold)).removesuffix("_bold")
    names = (f"{stem}_desc-confounds_{suffix}.tsv" for suffix in ("timeseries", "regressors"))
    return next((path for path in map(bold.with_name, names) if path.is_file()), None)


def space_of(bold: Path) -> str:
    """The entity `space` of the name; "native" for fMRIPrep's names without one, empty for names of others."""
    match = re.search(r"_space-([A-Za-z0-9]+)", bold.name)
    return match[1] if match else "native" if "_desc-preproc_bold" in bold.name else ""


def repetition_time_of(header: BoldHeader, given: float | None = None) -> float:
    """Seconds between volumes: as given, else from the JSON beside the run, else from its header."""
    sidecar = header.path.with_name(_stem(header.path) + ".json")
    value = given
    if value is None and sidecar.is_file():
        try:
            value = json.loads(sidecar.read_text(encoding="utf-8")).get("RepetitionTime")
        except ValueError as error:
            raise SubjectError(sidecar, f"no JSON ({error})", "copy the file again") from error
    value = float(value) if value else header.repetition_time_s
    low, high = PLAUSIBLE_REPETITION_S
    if not low <= value <= high:
        got = f"{value:g} s" if value else "none"
        reason = f"expected a repetition time of {low:g} to {high:g} s in {sidecar.name} or the header, got {got}"
        fix = 'write "RepetitionTime" in seconds to the JSON, or give it (--repetition-time)'
        raise SubjectError(header.path, reason, fix)
    return value


def _siblings(bold: Path) -> list[Path]:
    if not re.search(r"_run-\d+", bold.name):
        return []
    pattern = re.sub(r"_run-\d+", "_run-*", bold.name)
    exact = re.compile(re.escape(pattern).replace(r"\*", r"\d+"))
    return [path for path in bold.parent.glob(pattern) if exact.fullmatch(path.name)]


def _run_number(path: Path) -> int:
    match = re.search(r"_run-(\d+)", path.name)
    return int(match[1]) if match else 0


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name)
