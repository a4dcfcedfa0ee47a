"""One file harmonised into another, each output whole or absent."""

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Image

from gan_lib.harmonize import Harmonised, Harmonizer, TargetStyle
from gan_lib.quality_page import quality_page
from study_lib.files import atomic_path, atomic_write_text
from study_lib.volume import image_like, load_volume

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FileJob:
    """An image with its mask (None: it is stripped), and what is to be written."""

    image: Path
    mask: Path | None
    out: Path
    difference: Path | None = None
    page: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read."""
        return tuple(path for path in (self.image, self.mask) if path is not None)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files that are written, the harmonised image last."""
        return tuple(path for path in (self.difference, self.page, self.out) if path is not None)


def harmonize_file(harmonizer: Harmonizer, style: TargetStyle, job: FileJob) -> Harmonised:
    """Read, harmonise, write. The result's image has the shape of the file, trailing axes of length 1 included."""
    volume = load_volume(job.image)
    mask = load_volume(job.mask) if job.mask else None
    result = harmonizer.translate(volume, style, mask)
    header = nibabel.load(job.image)
    result = replace(result, image=image_like(np.reshape(result.after, header.shape), header))
    if job.difference:
        save_image(result.difference(), job.difference)
    if job.page:
        atomic_write_text(job.page, quality_page(result, page_facts(harmonizer, style, job)))
    save_image(result.image, job.out)
    return result


def page_facts(harmonizer: Harmonizer, style: TargetStyle, job: FileJob) -> dict[str, str]:
    """What a reader of the page must know of how the volume was made."""
    return {
        "input": job.image.name,
        "brain mask": job.mask.name if job.mask else "none: the image is stripped",
        "harmonised to": style.name,
        "model": harmonizer.model.checksum[:16] or "in memory",
        "slices": ", ".join(harmonizer.planes),
        "detail": harmonizer.config.detail,
        "units": "the study's normalised units: [0, 1] in the brain, 0 outside",
    }


def save_image(image: Nifti1Image, path: Path) -> None:
    """Write an image whole or not at all."""
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def check_outputs(job: FileJob, other_inputs: tuple[Path, ...] = (), overwrite: bool = False) -> None:
    """Raise before any work where an output has a wrong name, is an input, or is there already."""
    images = [path for path in (job.out, job.difference) if path is not None]
    if wrong := [path for path in images if not path.name.endswith(SUFFIXES)]:
        raise ValueError(f"{wrong[0]}: expected a name that ends in .nii.gz or .nii; it would be no NIfTI file")
    places = [path.resolve() for path in job.outputs]
    if len(set(places)) != len(places):
        raise ValueError(f"outputs: two of {', '.join(map(str, job.outputs))} are one file; give each its own name")
    inputs = {path.resolve() for path in (*job.inputs, *other_inputs)}
    if taken := [path for path in job.outputs if path.resolve() in inputs or _same_as_any(path, inputs)]:
        raise ValueError(f"{taken[0]}: this is an input, which is never overwritten; give another name")
    if not overwrite and (there := [path for path in job.outputs if path.exists()]):
        raise ValueError(f"{there[0]}: the file is there already; give --overwrite to replace it, or another name")


def _same_as_any(path: Path, inputs: set[Path]) -> bool:
    """Also by a hard link, or on a file system that takes upper and lower case for one."""
    return path.exists() and any(other.exists() and path.samefile(other) for other in inputs)
