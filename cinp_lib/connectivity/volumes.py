"""A 4D NIfTI volume by volume: decompressed and hashed in one pass, one volume in memory at a time.

Reading the whole image costs its size in memory, and twice that as floats; region means need neither.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from cinp_lib.connectivity.problems import SubjectError
from study_lib.grid import Grid
from study_lib.scan_checks import UnreadableScan
from study_lib.scan_checks.findings import Finding
from study_lib.scan_checks.reading import (
    GZIP_MARK,
    HEADER_BYTES,
    parse_header,
    refuse_absent,
    refuse_placeholder,
)

CHUNK_BYTES = 1 << 18  # of the compressed file
FETCH = "copy or download the file again"
_GZIP_OR_ZLIB = 47  # zlib's code for "find out from the header"


@dataclass(frozen=True)
class BoldHeader:
    """What a run's first bytes say."""

    path: Path
    nifti: nib.Nifti1Header
    grid: Grid
    n_volumes: int

    @property
    def repetition_time_s(self) -> float:
        """Seconds between volumes by the header, 0 where it does not say."""
        value = float(self.nifti.get_zooms()[3])
        return value * {"msec": 1e-3, "usec": 1e-6}.get(self.nifti.get_xyzt_units()[1], 1.0)


class VolumeStream:
    """Iterate over the raw voxels of each volume (flat, in the file's order and dtype), then ask for `sha256`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        self.sha256 = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        header = self.header.nifti
        dtype = header.get_data_dtype()
        buffer = bytearray(int(np.prod(self.header.grid.shape)) * dtype.itemsize)
        with open(self.path, "rb") as file:
            source = _source(file)
            try:
                _fill(source, memoryview(bytearray(int(header["vox_offset"]))))
                for volume in range(self.header.n_volumes):
                    got = _fill(source, memoryview(buffer))
                    if got < len(buffer):
                        reason = f"truncated: it ends in volume {volume} of {self.header.n_volumes}"
                        raise SubjectError(self.path, reason, FETCH)
                    yield np.frombuffer(buffer, dtype)
                source.finish()
            except zlib.error as error:
                raise SubjectError(self.path, f"corrupt gzip file ({error})", FETCH) from error
        self.sha256 = source.digest.hexdigest()


def read_header(path: str | Path) -> BoldHeader:
    """The header of a 4D run; what is no such thing is refused."""
    path = Path(path)
    try:
        refuse_absent(path)
        with open(path, "rb") as file:
            refuse_placeholder(path, file.read(200))
            file.seek(0)
            start = memoryview(bytearray(HEADER_BYTES))
            got = _fill(_source(file), start)
        header = parse_header(path, bytes(start[:got]))
    except UnreadableScan as error:
        raise _as_subject_error(path, error.finding) from error
    except zlib.error as error:
        raise SubjectError(path, f"corrupt gzip file ({error})", FETCH) from error
    shape = header.get_data_shape()
    if len(shape) != 4 or min(shape) < 1:
        raise SubjectError(path, f"expected 4 dimensions (x, y, z, time), got shape {shape}", "give a BOLD run")
    if header.get_data_dtype().kind not in "iuf":
        raise SubjectError(path, f"voxels are of type {header.get_data_dtype()}, not numbers", "give a BOLD run")
    try:
        grid = Grid(shape[:3], header.get_best_affine())
    except ValueError as error:
        raise SubjectError(path, str(error), "mend the affine in the header") from error
    return BoldHeader(path, header, grid, int(shape[3]))


def _as_subject_error(path: Path, finding: Finding) -> SubjectError:
    return SubjectError(path, finding.message, finding.fix)


class _Plain:
    """Bytes of an uncompressed file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, 1 << 22))
        self.digest.update(data)
        return data

    def finish(self) -> None:
        """Hash what follows the last volume."""
        while self.read(1 << 22):
            pass


class _Inflated:
    """Bytes of a gzip file of one or several members; its check sums are compared as they pass."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.inflater, self.pending, self.fresh = zlib.decompressobj(_GZIP_OR_ZLIB), b"", True

    def read(self, size: int) -> bytes:
        while True:
            if not self.pending:
                self.pending = self.file.read(CHUNK_BYTES)
                self.digest.update(self.pending)
                if not self.pending:
                    return b""
            if self.fresh and not self.pending.strip(b"\0"):  # padding after the last member
                self.pending = b""
                continue
            data = self.inflater.decompress(self.pending, size)
            self.pending, self.fresh = self.inflater.unconsumed_tail, False
            if self.inflater.eof:
                self.pending = self.inflater.unused_data
                self.inflater, self.fresh = zlib.decompressobj(_GZIP_OR_ZLIB), True
            if data:
                return data

    def finish(self) -> None:
        """Read to the end, so that the last check sum is compared too."""
        while self.read(1 << 20):
            pass
        if not self.fresh:
            raise zlib.error("it ends before its check sum")


def _source(file: BinaryIO) -> _Plain | _Inflated:
    compressed = file.read(2) == GZIP_MARK
    file.seek(0)
    return _Inflated(file) if compressed else _Plain(file)


def _fill(source: _Plain | _Inflated, view: memoryview) -> int:
    """Fill `view`; fewer bytes than it holds mean the end of the file."""
    position = 0
    while position < len(view):
        data = source.read(len(view) - position)
        if not data:
            break
        view[position : position + len(data)] = data
        position += len(data)
    return position
