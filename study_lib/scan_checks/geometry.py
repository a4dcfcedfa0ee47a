"""Do header and affine describe one and the same place in the scanner?"""

import itertools

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from study_lib.scan_checks.findings import Finding, suspicion

SMALLEST_AXIS = 2
ZOOM_TOLERANCE = 0.01
PLAUSIBLE_ZOOMS_MM = (0.1, 15.0)
# sform and qform may differ by rounding, not by half a voxel.
FORM_TOLERANCE_VOXELS = 0.5
GRID_TOLERANCE_VOXELS = 0.05
REGENERATE = "convert the scan from its source again (dcm2niix), or mend the header"


def check_dimensions(shape: tuple[int, ...], ndim: int) -> list[Finding]:
    """A volume has three axes, a functional run four."""
    if len(shape) == 4 and ndim == 3:
        one = shape[3] == 1
        fix = "drop the last axis (nibabel.squeeze_image)" if one else "write it in the column 'bold', or average it"
        return [Finding("dimensions", f"expected a 3D volume, got 4D {shape}", fix)]
    if len(shape) == 3 and ndim == 4:
        fix = "write the path of the whole functional run; a single volume is no time series"
        return [Finding("dimensions", f"expected a 4D run, got one 3D volume {shape}", fix)]
    if len(shape) != ndim or min(shape[:3]) < SMALLEST_AXIS:
        least = f"{SMALLEST_AXIS} voxels along each axis of space"
        return [Finding("dimensions", f"expected {ndim} axes with at least {least}, got {shape}", REGENERATE)]
    return []


def check_geometry(header: nib.Nifti1Header, affine: np.ndarray) -> list[Finding]:
    """Affine singular or unlike pixdim; sform against qform; no orientation at all."""
    problem = _unusable_affine(affine)
    if problem:
        return [problem]
    return [*_zooms(header, affine), *_forms(header)]


def _unusable_affine(affine: np.ndarray) -> Finding | None:
    shown = np.array2string(np.asarray(affine)[:3], precision=3, separator=", ").replace("\n", "")
    if not np.isfinite(affine).all():
        return Finding("affine", f"the affine holds values that are not finite: {shown}", REGENERATE)
    zooms = nib.affines.voxel_sizes(affine)
    # Columns that are (nearly) in one plane make a volume without thickness.
    if zooms.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3])) < 1e-3 * np.prod(zooms):
        return Finding("affine", f"the affine is singular: {shown}", REGENERATE)
    return None


def _zooms(header: nib.Nifti1Header, affine: np.ndarray) -> list[Finding]:
    findings = []
    from_affine = nib.affines.voxel_sizes(affine)
    from_header = np.asarray(header.get_zooms()[:3], float)
    if np.any(np.abs(from_affine - from_header) > ZOOM_TOLERANCE * from_affine):
        message = f"voxel sizes disagree: pixdim says {_mm(from_header)}, the affine {_mm(from_affine)}"
        fix = "find out which is right and write it to both (nibabel: header.set_zooms, set_sform)"
        findings.append(Finding("zooms", message, fix))
    low, high = PLAUSIBLE_ZOOMS_MM
    if from_affine.min() < low or from_affine.max() > high:
        message = f"voxels of {_mm(from_affine)} are outside {low:g} to {high:g} mm; are they in metres or microns?"
        findings.append(suspicion("zooms", message, REGENERATE))
    return findings


def _mm(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _forms(header: nib.Nifti1Header) -> list[Finding]:
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        message = "neither sform nor qform is set (codes 0): left and right are not known"
        return [suspicion("orientation", message, REGENERATE)]
    if 0 in codes:
        return []
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError) as error:
        return [suspicion("orientation", f"the qform cannot be read ({error})", "write it from the sform")]
    return _compared_forms(header, header.get_sform(), qform, codes)


def _compared_forms(
    header: nib.Nifti1Header, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int]
) -> list[Finding]:
    fix = "find out which is right, then copy it over the other (nibabel: image.set_qform(image.affine))"
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        return [Finding("left-right", "sform and qform disagree about left and right", fix)]
    shape = header.get_data_shape()[:3]
    distance = corner_distance(sform, qform, shape)
    if distance <= FORM_TOLERANCE_VOXELS * nib.affines.voxel_sizes(sform).min():
        return []
    message = f"sform and qform disagree by up to {distance:.1f} mm (codes {codes[0]} and {codes[1]})"
    # Different codes may name two spaces, e.g. scanner and MNI; equal codes name one.
    same_space = codes[0] == codes[1]
    return [Finding("forms", message, fix) if same_space else suspicion("forms", message, fix)]


def corner_distance(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the places that two affines give to a corner of the volume."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in shape[:3]))))
    gaps = nib.affines.apply_affine(one, corners) - nib.affines.apply_affine(other, corners)
    return float(np.linalg.norm(gaps, axis=1).max())


def grid_difference(
    shape: tuple[int, ...], affine: np.ndarray, other_shape: tuple[int, ...], other_affine: np.ndarray
) -> str:
    """How the second grid differs from the first, in words; empty when it does not."""
    if tuple(shape[:3]) != tuple(other_shape[:3]):
        return f"its shape is {tuple(other_shape[:3])}, not {tuple(shape[:3])}"
    if np.linalg.det(affine[:3, :3]) * np.linalg.det(other_affine[:3, :3]) < 0:
        return "its affine is mirrored: left and right are swapped"
    distance = corner_distance(affine, other_affine, shape)
    if distance > GRID_TOLERANCE_VOXELS * nib.affines.voxel_sizes(affine).min():
        return f"its affine is off by up to {distance:.2f} mm"
    return ""
