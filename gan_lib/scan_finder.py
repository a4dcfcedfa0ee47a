"""Which scans lie in a folder, where their brain masks are, and what their harmonised copies are called.

A BIDS tree (raw, fMRIPrep's output, or a folder of such per site) gives one T1w per session, chosen as for manifests
(`study_lib.sources.scans`): fMRIPrep's `desc-preproc_T1w` with its mask, else the raw one. Any other folder gives every
NIfTI file below it that is no mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_lib.harmonize_file import SUFFIXES
from study_lib.sources.problems import Problems
from study_lib.sources.scans import ScanChoice, find_scans
from study_lib.sources.tree import index_tree

# A mask beside `NAME_T1w.nii.gz` or `NAME.nii.gz` is called NAME, or NAME_T1w, with one of these.
MASK_ENDINGS = ("_desc-brain_mask", "_brain_mask", "_brainmask", "_mask")
NOT_SCANS = ("mask", "_dseg", "_probseg")


@dataclass(frozen=True)
class FoundScan:
    """A T1w, its mask (None: none found), and the relative path of what it becomes."""

    image: Path
    mask: Path | None
    out: Path


@dataclass(frozen=True)
class FoundScans:
    """All scans of a folder. `warnings` say which files were left out, and why."""

    scans: tuple[FoundScan, ...]
    is_bids: bool
    warnings: tuple[str, ...] = ()


def find(folder: Path, outputs: Sequence[Path], masks: Path | None = None) -> FoundScans:
    """The scans of a folder; folders of outputs in it are not searched. `masks` mirrors the names of the images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give an image, or a folder of images")
    if taken := [path for path in outputs if path.resolve() == folder.resolve()]:
        raise ValueError(f"{taken[0]}: this is the folder of the inputs, which are never overwritten; give another one")
    found = _in_bids(folder) or _in_plain_folder(folder, [*outputs, *([masks] if masks else [])])
    if masks is not None:
        scans = tuple(FoundScan(s.image, _mask_in(masks, s.image.relative_to(folder)), s.out) for s in found.scans)
        found = FoundScans(scans, found.is_bids, found.warnings)
    if not found.scans:
        raise FileNotFoundError(f"{folder}: expected T1w volumes (.nii.gz or .nii), got none; check the folder")
    _check_names(found.scans)
    return found


def stem(path: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return next((path.name.removesuffix(end) for end in SUFFIXES if path.name.endswith(end)), path.name)


def _in_bids(folder: Path) -> FoundScans | None:
    """The scans of a BIDS tree; None where there is none."""
    files = index_tree(folder)
    if files.empty:
        return None
    problems = Problems(folder)
    table = find_scans(files, ScanChoice(), problems)
    scans = tuple(
        FoundScan(folder / row.t1w, folder / row.t1w_mask if row.t1w_mask else None, _derivative(row.group, row.t1w))
        for row in table.itertuples()
        if row.t1w
    )
    about = [row for row in problems.warnings if row["column"] == "t1w"]
    return FoundScans(scans, True, tuple(f"{row['file']}: {row['reason']}. Fix: {row['fix']}" for row in about))


def _derivative(group: str, t1w: str) -> Path:
    """sub-x[/ses-y]/anat/sub-x[_…]_desc-harmonised_T1w.nii.gz, under the site's folder where there are such."""
    path = Path(t1w)
    parts = [part for part in stem(path).split("_") if not part.startswith("desc-")]
    name = "_".join([*parts[:-1], "desc-harmonised", parts[-1]]) + ".nii.gz"
    folders = [part for part in path.parent.parts if part.startswith(("sub-", "ses-"))]
    return Path(group, *folders, "anat", name)


def _in_plain_folder(folder: Path, others: Sequence[Path]) -> FoundScans:
    others = [other.resolve() for other in others if other.resolve() != folder.resolve()]
    images = [path for path in sorted(folder.rglob("*")) if _is_scan(path) and not _below(path, others)]
    return FoundScans(tuple(FoundScan(p, _mask_beside(p), p.relative_to(folder)) for p in images), False)


def _is_scan(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".") and not stem(path).endswith(NOT_SCANS)


def _below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.parent.resolve().is_relative_to(folder) for folder in folders)


def _mask_beside(image: Path) -> Path | None:
    names = dict.fromkeys((stem(image), stem(image).removesuffix("_T1w")))
    candidates = (image.with_name(name + end + s) for name in names for end in MASK_ENDINGS for s in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _mask_in(masks: Path, image: Path) -> Path | None:
    """A mask of the same name, or with an ending of masks, at the same place in another folder."""
    same = masks / image
    return same if same.is_file() else _mask_beside(same)


def _check_names(scans: tuple[FoundScan, ...]) -> None:
    """Two inputs must not end in one file, nor share its JSON as x.nii and x.nii.gz would."""
    first: dict[Path, Path] = {}
    for scan in scans:
        place = scan.out.with_name(stem(scan.out))
        if place in first:
            raise ValueError(
                f"{first[place]} and {scan.image} would both become {place}; rename or move one, or do them one by one"
            )
        first[place] = scan.image
