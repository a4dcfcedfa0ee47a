"""Everything that one reading of a 3D volume tells."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from study_lib.scan_checks.contrast import check_contrast
from study_lib.scan_checks.findings import Finding, UnreadableScan
from study_lib.scan_checks.geometry import check_dimensions, check_geometry
from study_lib.scan_checks.likeness import descriptor, head_of, upright_descriptor
from study_lib.scan_checks.reading import Scan, read_scan
from study_lib.scan_checks.reduction import canonical
from study_lib.scan_checks.values import check_mask_values, check_values


@dataclass(frozen=True)
class Examination:
    """The findings on one T1w, and what later recognises the same scan in another file.

    `voxel_digest` is of the voxels as stored, `content_digest` of the voxels in RAS order with the affine: a
    copy with another affine shares the first, a re-oriented copy the second.
    """

    findings: list[Finding]
    sha256: str = ""
    voxel_digest: str = ""
    content_digest: str = ""
    descriptor: np.ndarray | None = field(default=None, repr=False)
    upright: np.ndarray | None = field(default=None, repr=False)

    @property
    def has_error(self) -> bool:
        return any(finding.is_error for finding in self.findings)


def check_volume(path: str | Path, ndim: int = 3, kind: str = "t1w") -> list[Finding]:
    """What is wrong or suspicious about one file: a 3D `t1w` or `mask`, or a 4D run (then read whole)."""
    if ndim == 4:
        from study_lib.scan_checks.bold import check_bold

        return check_bold(path, read=True)
    try:
        scan = read_scan(path)
    except UnreadableScan as error:
        return [error.finding]
    return check_scan(scan, kind)


def check_scan(scan: Scan, kind: str = "t1w") -> list[Finding]:
    """The checks of `check_volume` on a 3D volume that was read already."""
    findings = check_dimensions(scan.voxels.shape, 3)
    findings = findings or [*check_geometry(scan.header, scan.affine), *check_values(scan.voxels)]
    if any(finding.is_error for finding in findings):
        return findings
    if kind == "mask":
        return findings + check_mask_values(scan.voxels)
    return findings + check_contrast(scan.voxels, scan.affine)


def examine(scan: Scan, has_sibling: bool = False) -> Examination:
    """Check a T1w and describe it; `has_sibling` adds what tells swapped sides between a subject's scans."""
    findings = check_scan(scan)
    if any(finding.is_error for finding in findings):
        return Examination(findings, scan.sha256)
    head = head_of(scan.voxels, scan.affine)
    return Examination(
        findings,
        scan.sha256,
        _voxel_digest(scan.voxels),
        _content_digest(scan),
        None if head is None else descriptor(head).astype(np.float16),
        None if head is None or not has_sibling else upright_descriptor(head).astype(np.float16),
    )


def _voxel_digest(voxels: np.ndarray) -> str:
    return hashlib.sha256(repr(voxels.shape).encode() + _bytes(voxels)).hexdigest()


def _content_digest(scan: Scan) -> str:
    voxels, affine = canonical(scan.voxels, scan.affine)
    where = np.round(affine, 3) + 0.0  # -0.0 and 0.0 are one place
    return hashlib.sha256(where.tobytes() + repr(voxels.shape).encode() + _bytes(voxels)).hexdigest()


def _bytes(voxels: np.ndarray) -> bytes:
    # nibabel's arrays are in Fortran order: their transpose needs no copy to be hashed.
    return np.ascontiguousarray(voxels.T).data.cast("B")
