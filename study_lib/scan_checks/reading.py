"""One pass over a file: its checksum, header and voxels come from the same bytes."""

import gzip
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from study_lib.scan_checks.findings import unreadable

GZIP_MARK = b"\x1f\x8b"
HEADER_BYTES = 544  # a NIfTI-2 header; a NIfTI-1 header is shorter
CHUNK_BYTES = 1 << 22
FETCH_AGAIN = "copy or download the file again"


@dataclass(frozen=True)
class Scan:
    """A decoded volume, its header and the SHA-256 of the file it came from."""

    path: Path
    sha256: str
    header: nib.Nifti1Header
    affine: np.ndarray
    voxels: np.ndarray


def read_scan(path: str | Path) -> Scan:
    """Read and decode a NIfTI file once; raises UnreadableScan."""
    path = Path(path)
    raw = read_bytes(path)
    image = _image(path, _decompressed(path, raw))
    voxels = np.asanyarray(image.dataobj)
    if voxels.dtype.kind not in "iuf":
        fix = "convert it to a single-channel volume"
        raise unreadable("not a scan", f"voxels are of type {voxels.dtype}, not numbers", fix)
    voxels = voxels.astype(np.float32, copy=False)
    return Scan(path, hashlib.sha256(raw).hexdigest(), image.header, image.affine, voxels)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; raises UnreadableScan where it is absent, empty or a data manager's placeholder."""
    refuse_absent(path)
    raw = path.read_bytes()
    refuse_placeholder(path, raw[:200])
    return raw


def refuse_absent(path: Path) -> None:
    """Raise for a missing file, a dangling link, a folder, or a file of zero bytes."""
    if path.is_symlink() and not path.exists():
        raise _dangling(path)
    if not path.exists():
        raise unreadable("missing", f"no file {path}", "fetch the file, or mend its path in the manifest")
    if not path.is_file():
        raise unreadable("missing", f"{path} is not a file", "write the path of a file")
    if path.stat().st_size == 0:
        raise unreadable("empty", f"{path.name} has zero bytes", FETCH_AGAIN)


def _dangling(path: Path) -> Exception:
    target = os.readlink(path)
    if "annex/objects" in target.replace("\\", "/"):
        return _annexed(path)
    return unreadable("dangling link", f"{path.name} is a link to {target}, which does not exist", FETCH_AGAIN)


def _annexed(path: Path) -> Exception:
    fix = f"run `datalad get {path.name}` (or `git annex get {path.name}`) in {path.parent}"
    return unreadable("annex", f"{path.name} is a git-annex link whose content was not fetched", fix)


def refuse_placeholder(path: Path, start: bytes) -> None:
    """Raise for the small text file that git-annex or Git LFS leaves where content was not fetched."""
    if start.startswith(b"/annex/objects/"):
        raise _annexed(path)
    if start.startswith(b"version https://git-lfs"):
        fix = f"run `git lfs pull --include {path.name}`"
        raise unreadable("lfs", f"{path.name} is a Git LFS pointer whose content was not fetched", fix)


def _decompressed(path: Path, raw: bytes) -> bytes:
    if not raw.startswith(GZIP_MARK):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise broken_gzip(path, error) from error


def broken_gzip(path: Path, error: Exception) -> Exception:
    """What to raise for a gzip stream that ends early or fails its check."""
    kind = "truncated" if isinstance(error, EOFError) else "corrupt"
    return unreadable(kind, f"{path.name} is a {kind} gzip file ({error})", FETCH_AGAIN)


def parse_header(path: Path, start: bytes) -> nib.Nifti1Header:
    """The NIfTI header in the first bytes of a decompressed file."""
    kinds = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    size = next((s for order in "<>" for s in struct.unpack(f"{order}i", start[:4]) if s in kinds), 0)
    if size == 0 or len(start) < size:
        fix = "convert it to NIfTI (.nii.gz), or fetch it again"
        raise unreadable("not NIfTI", f"{path.name} does not start with a NIfTI header", fix)
    try:
        header = kinds[size](start[:size], check=False)
        header.get_data_dtype()
    except (HeaderDataError, ImageFileError, ValueError) as error:
        message = f"{path.name} has a NIfTI header that cannot be read ({error})"
        raise unreadable("not NIfTI", message, FETCH_AGAIN) from error
    return header


def expected_bytes(header: nib.Nifti1Header) -> int:
    """Size of the decompressed file that the header announces."""
    voxels = int(np.prod(header.get_data_shape(), dtype=np.int64))
    return int(header["vox_offset"]) + voxels * header.get_data_dtype().itemsize


def refuse_short(path: Path, header: nib.Nifti1Header, size: int) -> None:
    """Raise when fewer bytes follow than the header announces."""
    expected = expected_bytes(header)
    if size < expected:
        message = f"{path.name} is truncated: {size} bytes after decompression, {expected} expected"
        raise unreadable("truncated", message, FETCH_AGAIN)


def _image(path: Path, content: bytes) -> nib.Nifti1Image:
    header = parse_header(path, content[:HEADER_BYTES])
    refuse_short(path, header, len(content))
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    try:
        return kind.from_bytes(content)
    except (HeaderDataError, ImageFileError, ValueError) as error:
        raise unreadable("not NIfTI", f"{path.name} cannot be read as NIfTI ({error})", FETCH_AGAIN) from error
