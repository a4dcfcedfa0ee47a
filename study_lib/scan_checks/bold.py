"""Checks of a functional run: cheap ones from header and size, all voxels on demand."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from study_lib.scan_checks.findings import Finding, UnreadableScan, suspicion
from study_lib.scan_checks.geometry import check_dimensions, check_geometry
from study_lib.scan_checks.reading import (
    CHUNK_BYTES,
    GZIP_MARK,
    HEADER_BYTES,
    broken_gzip,
    expected_bytes,
    parse_header,
    refuse_absent,
    refuse_placeholder,
    refuse_short,
)
from study_lib.scan_checks.values import FETCH

PLAUSIBLE_REPETITION_S = (0.2, 10.0)
FEWEST_VOLUMES = 20


def check_bold(path: str | Path, read: bool = False) -> list[Finding]:
    """What is wrong or suspicious about a 4D run; `read` looks at every voxel, which takes seconds."""
    return examine_bold(path, read=read)[0]


def examine_bold(path: str | Path, read: bool = False, checksum: bool = False) -> tuple[list[Finding], str]:
    """The findings, and the file's SHA-256 where it was asked for or came with reading (else empty)."""
    path = Path(path)
    try:
        header = _header(path)
    except UnreadableScan as error:
        return [error.finding], ""
    findings = check_dimensions(header.get_data_shape(), 4)
    findings += check_geometry(header, header.get_best_affine())
    if not findings:
        findings += _check_time(header)
    try:
        if read and not any(finding.is_error for finding in findings):
            values, digest = _read_through(path, header)
            return findings + values, digest
        _check_size(path, header)
    except UnreadableScan as error:
        return [*findings, error.finding], ""
    return findings, _sha256(path) if checksum else ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _header(path: Path) -> nib.Nifti1Header:
    refuse_absent(path)
    with open(path, "rb") as file:
        start = file.read(200)
        refuse_placeholder(path, start)
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if start.startswith(GZIP_MARK) else file
        try:
            return parse_header(path, stream.read(HEADER_BYTES))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise broken_gzip(path, error) from error


def _check_time(header: nib.Nifti1Header) -> list[Finding]:
    repetition, volumes = float(header.get_zooms()[3]), header.get_data_shape()[3]
    seconds = repetition * {"msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 1.0)
    findings = []
    low, high = PLAUSIBLE_REPETITION_S
    if seconds == 0:
        message = "the header gives no repetition time (pixdim[4] is 0)"
        fix = "write it to the header from the JSON sidecar; filters need it"
        findings.append(suspicion("repetition time", message, fix))
    elif not low <= seconds <= high:
        message = f"repetition time {seconds:g} s by the header is outside {low:g} to {high:g} s"
        fix = "mend value or unit: pixdim[4] and xyzt_units must agree (2000 with seconds is 2000 ms)"
        findings.append(suspicion("repetition time", message, fix))
    if volumes < FEWEST_VOLUMES:
        message = f"only {volumes} volumes: correlations over so few are noise"
        findings.append(suspicion("length", message, "check that it is the whole run"))
    return findings


def _check_size(path: Path, header: nib.Nifti1Header) -> None:
    """Compare the announced size with the file's, for gzip with the size that its last bytes note."""
    with open(path, "rb") as file:
        compressed = file.read(2) == GZIP_MARK
        file.seek(-4, 2)
        noted = struct.unpack("<I", file.read(4))[0]
    if not compressed:
        refuse_short(path, header, path.stat().st_size)
    elif noted != expected_bytes(header) % 2**32:
        # A cut file ends in arbitrary bytes, a sound one of several members in another size: count.
        refuse_short(path, header, _decompressed_size(path))


def _decompressed_size(path: Path) -> int:
    size = 0
    with gzip.open(path) as stream:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise broken_gzip(path, error) from error
    return size


class _Hashed:
    """A file whose bytes are hashed while another reader takes them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        return chunk


def _read_through(path: Path, header: nib.Nifti1Header) -> tuple[list[Finding], str]:
    """Every volume in one pass, one at a time in memory, with the checksum of the file."""
    with open(path, "rb") as file:
        compressed = file.read(2) == GZIP_MARK
        file.seek(0)
        hashed = _Hashed(file)
        stream = gzip.GzipFile(fileobj=hashed) if compressed else hashed
        try:
            findings = _check_volumes(path, header, stream)
            while hashed.read(CHUNK_BYTES):
                pass
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise broken_gzip(path, error) from error
    return findings, hashed.digest.hexdigest()


def _check_volumes(path: Path, header: nib.Nifti1Header, stream: BinaryIO | _Hashed) -> list[Finding]:
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    size = int(np.prod(shape[:3])) * dtype.itemsize
    position = len(stream.read(int(header["vox_offset"])))
    not_finite, constant = [], []
    for index in range(shape[3]):
        content = stream.read(size)
        position += len(content)
        if len(content) < size:
            refuse_short(path, header, position)
        volume = np.frombuffer(content, dtype)
        (not_finite if not np.isfinite(volume).all() else constant if np.ptp(volume) == 0 else []).append(index)
    stream.read(1)  # past the last voxel, so that gzip compares its check sum
    findings = []
    if not_finite:
        message = f"NaN or infinite voxels in {len(not_finite)} of {shape[3]} volumes (first: {not_finite[0]})"
        findings.append(Finding("not finite", message, FETCH))
    if constant:
        message = f"{len(constant)} of {shape[3]} volumes are constant (first: {constant[0]})"
        findings.append(Finding("constant", message, FETCH))
    return findings
