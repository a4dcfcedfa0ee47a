"""The atlas that turns voxels into 116 regions: its names in order, its labels, and where it lies."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from cinp_lib.connectivity.aal import AAL_NAME, AAL_NAMES, AAL_REGIONS, N_REGIONS
from study_lib.grid import Grid
from study_lib.scan_checks import check_atlas
from study_lib.volume import resample

# Of the voxels of AAL numbered 1 to 116 on RAS axes, cut to the box that holds them: two public copies of different
# origin, on different grids, agree in every one of them.
AAL_LABELS_SHA256 = "a4f9ae26ed4c4feae145f0a4b31af6eafd60d1895597737cdcdc83dd3fde8162"


@dataclass(frozen=True, eq=False)
class Atlas:
    """Region k (from 0) has label k + 1 in `labels`; without `labels` it can name regions but not find them."""

    name: str
    names: tuple[str, ...]
    labels: np.ndarray | None = field(default=None, repr=False)  # (x, y, z), 0 = no region
    affine: np.ndarray | None = field(default=None, repr=False)
    space: str = "MNI"
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """What identifies it: names, labels and place."""
        parts = ["\n".join((self.name, *self.names)).encode()]
        if self.labels is not None:
            parts += [self.labels.tobytes(), np.asarray(self.affine, float).tobytes(), str(self.labels.shape).encode()]
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atlas) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def on_grid(self, grid: Grid) -> np.ndarray:
        """The labels on another grid by nearest neighbour, made once per grid and process; do not write to it."""
        return _labels_on(self, grid)

    def volumes_mm3(self) -> np.ndarray:
        """The volume of every region."""
        counts = np.bincount(self._image_labels().ravel(), minlength=N_REGIONS + 1)[1:]
        return counts * float(np.abs(np.linalg.det(self.affine[:3, :3])))

    def centres_mm(self) -> np.ndarray:
        """(region, 3) centres of mass, for drawing."""
        from scipy import ndimage

        labels = self._image_labels()
        centres = ndimage.center_of_mass(labels > 0, labels, np.arange(1, N_REGIONS + 1))
        return nib.affines.apply_affine(self.affine, np.array(centres))

    def _image_labels(self) -> np.ndarray:
        if self.labels is None:
            raise ValueError(
                f"atlas {self.name}: expected a label image to read BOLD with, got names alone; give its file: "
                "load_atlas(path), or --atlas FILE on the command line"
            )
        return self.labels


AAL = Atlas(AAL_NAME, AAL_NAMES)
"""AAL's names, enough for region series; `fetch_aal` or `load_atlas` bring its image."""


@lru_cache(maxsize=8)
def _labels_on(atlas: Atlas, grid: Grid) -> np.ndarray:
    image = nib.Nifti1Image(atlas._image_labels().astype(np.int16), atlas.affine)
    labels = np.asarray(resample(image, grid, "nearest").dataobj).astype(np.int16)
    labels.setflags(write=False)
    return labels


def load_atlas(path: str | Path, table: str | Path | None = None, check_place: bool = True) -> Atlas:
    """Read a label image of 116 regions, and refuse one that does not lie where the MNI brain does.

    Names come from `table`, else from the .tsv beside the image (columns index and name); without one, values are
    taken as AAL's codes (2001 ...) or as AAL's order (1 to 116). `check_place=False` takes the image as it lies.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"atlas: expected a label image at {path}, got none; mend the path, or use fetch_aal()")
    image = nib.as_closest_canonical(nib.load(path))
    values = np.asanyarray(image.dataobj)
    found = np.unique(values)
    if not np.array_equal(found, np.rint(found)):
        raise ValueError(f"atlas {path}: expected whole numbers as labels, got fractions; it was interpolated")
    codes, names, name = _regions(path, found[found != 0].astype(int), table)
    labels = np.searchsorted(codes, values).astype(np.int16) + 1
    labels[values == 0] = 0
    if check_place:
        _refuse_misplaced(path)
    return Atlas(name, names, labels, image.affine, _space_of(path))


def _regions(path: Path, found: np.ndarray, table: str | Path | None) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Codes in ascending order with their names, and what the atlas is called."""
    if len(found) != N_REGIONS:
        raise ValueError(
            f"atlas {path}: expected {N_REGIONS} labels beside 0, got {len(found)}; use AAL (version SPM12, not "
            "AAL2 or AAL3), not resampled to a coarse grid"
        )
    beside = Path(re.sub(r"\.nii(\.gz)?$", "", str(path)) + ".tsv")
    table = Path(table) if table else beside if beside.is_file() else None
    match = re.search(r"atlas-([A-Za-z0-9]+)", path.name)
    if table is None:
        if set(found) not in (set(AAL_REGIONS), set(range(1, N_REGIONS + 1))):
            raise ValueError(
                f"atlas {path}: labels {found[0]} ... {found[-1]} are neither AAL's codes nor 1 to {N_REGIONS}; "
                "give the table of its names (columns index and name)"
            )
        return found, AAL_NAMES, match[1] if match else AAL_NAME
    rows = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",")
    if not {"index", "name"} <= set(rows.columns):
        raise ValueError(f"{table}: expected the columns index and name, got {', '.join(rows.columns)}")
    by_code = dict(zip(rows["index"].astype(int), rows["name"].astype(str), strict=True))
    unnamed = [int(code) for code in found if code not in by_code]
    if unnamed:
        raise ValueError(f"{table}: expected a name for every label of {path.name}, none for {unnamed[:5]}")
    names = tuple(by_code[code] for code in found)
    fallback = AAL_NAME if names == AAL_NAMES else path.name.split(".")[0]
    return found, names, match[1] if match else fallback


def _refuse_misplaced(path: Path) -> None:
    problems = place_problems(path)
    if problems:
        raise ValueError(
            f"atlas {path}: {'; '.join(problems)}; take the copy from its source, or correct its affine, or, if it is "
            "meant to lie there, load it with check_place=False (--atlas-as-is)"
        )


def place_problems(path: str | Path) -> list[str]:
    """What speaks against the place of a label image, seen from the MNI152 brain mask."""
    from nilearn.datasets import load_mni152_brain_mask

    findings = check_atlas(path, load_mni152_brain_mask(resolution=2), N_REGIONS)
    return [finding.message for finding in findings if finding.is_error]


def _space_of(path: Path) -> str:
    match = re.search(r"(?:tpl|space)-([A-Za-z0-9]+)", path.name)
    return match[1] if match else "MNI"


def fetch_aal(folder: str | Path | None = None) -> Atlas:
    """Download AAL (version SPM12) through nilearn, or read it from nilearn's folder, and compare its checksum.

    Its place is AAL's own: it was drawn on one brain (Colin27), which does not fill the MNI152 brain mask evenly.
    What the place check says is kept in `notes`.
    """
    from nilearn.datasets import fetch_atlas_aal

    try:
        fetched = fetch_atlas_aal(version="SPM12", data_dir=folder, verbose=0)
    except Exception as error:  # nilearn passes on whatever its downloader raises
        raise FileNotFoundError(
            f"AAL: could not be downloaded ({type(error).__name__}: {str(error)[:200]}). Download "
            "https://www.gin.cnrs.fr/AAL_files/aal_for_SPM12.tar.gz on a machine with internet, unpack it, and give "
            "its AAL.nii: load_atlas(path, check_place=False), or --atlas AAL.nii --atlas-as-is"
        ) from error
    atlas = load_atlas(fetched.maps, check_place=False)
    got = labels_checksum(atlas.labels)
    if got != AAL_LABELS_SHA256:
        raise ValueError(
            f"AAL {fetched.maps}: expected labels with SHA-256 {AAL_LABELS_SHA256}, got {got}; remove the file so that "
            "it is downloaded again, or give another copy with load_atlas(path)"
        )
    notes = tuple(place_problems(fetched.maps))
    return Atlas(AAL_NAME, AAL_NAMES, atlas.labels, atlas.affine, "MNIColin27", notes)


def labels_checksum(labels: np.ndarray) -> str:
    """SHA-256 of the labels inside the box that holds them; grid, file format and affine do not matter."""
    inside = np.argwhere(labels > 0)
    low, high = inside.min(0), inside.max(0) + 1
    box = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return hashlib.sha256(str(box.shape).encode() + box.astype(np.uint8).tobytes()).hexdigest()


def cohort_atlas(root: str | Path) -> Atlas | None:
    """The atlas that a data set brings along in derivatives/atlas, as the phantom does; None where it has none."""
    images = sorted(Path(root).glob("derivatives/atlas/*_dseg.nii.gz"))
    return load_atlas(images[0], check_place=False) if images else None
