"""Harmonise a T1-weighted volume, or a folder of them, to a training site or to a reference image.

IN is a NIfTI file, and OUT the one to write; or IN is a folder or BIDS tree, and OUT the folder that gets the same
names (BIDS: a derivative data set with desc-harmonised_T1w). Images must be skull-stripped or have a brain mask:
--mask FILE, in a folder the mask beside each image (*_desc-brain_mask.nii.gz, *_mask.nii.gz), or --mask FOLDER. The
output is float32 on the input's grid, in normalised units: [0, 1] in the brain, 0 outside. Not for diagnosis.

Exit code 0: all done. 1: at least one image could not be harmonised (OUT/failures.csv says which, why, and what to do);
the others are there, and the same command goes on with what is missing. 2: options, model or reference cannot be used,
and nothing was written.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study_lib.command_exits import ended

if TYPE_CHECKING:
    from gan_lib.harmonize import Harmonizer, TargetStyle
    from gan_lib.harmonize_batch import BatchConfig, BatchResult
    from gan_lib.harmonize_file import FileJob

FAILED = 1
SHOWN_FAILURES = 10
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def harmonize(
    source: Annotated[Path, typer.Argument(metavar="IN", help="an image, a folder of images, or a BIDS tree")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="the image, or the folder, to write")],
    model: Annotated[Path, typer.Option(help="the folder of a trained model")],
    target: Annotated[str | None, typer.Option(help="the training site to harmonise to")] = None,
    reference: Annotated[Path | None, typer.Option(help="the image to harmonise to, instead of a site")] = None,
    reference_mask: Annotated[Path | None, typer.Option(help="its brain mask, where it has a skull")] = None,
    reference_site: Annotated[
        str | None, typer.Option(help="read the reference as an image of this site; default: the one that fits best")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="brain mask; for a folder: the folder of masks")] = None,
    difference: Annotated[Path | None, typer.Option(help="write after minus before; for a folder: a folder")] = None,
    qc: Annotated[Path | None, typer.Option(help="write a page to look at (HTML); for a folder: a folder")] = None,
    planes: Annotated[str | None, typer.Option(help="such as axial,coronal,sagittal: the mean of these")] = None,
    detail: Annotated[str, typer.Option(help="native: keep the input's fine detail; grid: interpolate")] = "native",
    batch_size: Annotated[int, typer.Option(help="slices at a time", min=1)] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace outputs that are there")] = False,
) -> None:
    """Read the options, harmonise, report."""
    from gan_lib.harmonize import HarmonizeConfig, Harmonizer
    from gan_lib.harmonize_batch import BatchConfig
    from gan_lib.harmonize_file import FileJob, check_outputs

    folder, job = source.is_dir(), FileJob(source, mask, out, difference, qc)
    try:
        _check_options(source, mask, folder, target, reference)
        if not folder:
            references = tuple(path for path in (reference, reference_mask) if path is not None)
            check_outputs(job, references, overwrite)
        chosen = tuple(plane.strip() for plane in planes.split(",")) if planes else None
        config = HarmonizeConfig(detail, chosen, batch_size, reference_site)
        harmonizer = Harmonizer.load(model, config, device)
        style = _style(harmonizer, target, reference, reference_mask)
    except (ValueError, KeyError, OSError) as error:
        raise ended(error) from error
    if not folder:
        return _one(harmonizer, style, job)
    wanted = _target_content(target, reference, reference_mask, reference_site)
    _many(harmonizer, style, source, out, BatchConfig(wanted, difference, qc, mask, overwrite))


def main() -> None:
    """The console script `gan-harmonize`."""
    app()


def _check_options(source: Path, mask: Path | None, folder: bool, target: str | None, reference: Path | None) -> None:
    """What can be known to be wrong before anything is loaded."""
    if (target is None) == (reference is None):
        got = "neither" if target is None else "both"
        raise ValueError(f"expected --target SITE or --reference IMAGE, got {got}; give one of them")
    if not source.exists() and not source.is_symlink():
        raise FileNotFoundError(f"{source}: no such image or folder; check the path")
    if mask is not None and folder and not mask.is_dir():
        raise ValueError(f"{mask}: expected a folder of masks, as {source} is a folder; one mask fits one image only")


def _style(
    harmonizer: "Harmonizer", target: str | None, reference: Path | None, reference_mask: Path | None
) -> "TargetStyle":
    from study_lib.volume import load_volume

    images = (load_volume(path) if path else None for path in (reference, reference_mask))
    return harmonizer.style(target, *images)


def _target_content(
    target: str | None, reference: Path | None, reference_mask: Path | None, reference_site: str | None
) -> dict[str, str]:
    """What the outputs are harmonised to, so that a later run can tell whether it is the same."""
    from study_lib.files import sha256_of

    if reference is None:
        return {"Site": str(target)}
    files = {"Reference": reference, "ReferenceMask": reference_mask}
    content = {name: sha256_of(path) for name, path in files.items() if path is not None}
    return content | {"ReferenceSite": reference_site or "the one that fits best"}


def _one(harmonizer: "Harmonizer", style: "TargetStyle", job: "FileJob") -> None:
    from gan_lib.harmonize_file import harmonize_file

    try:
        result = harmonize_file(harmonizer, style, job)
    except (ValueError, OSError) as error:
        raise ended(error, FAILED) from error
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{job.out}: harmonised to {style.name}", err=True)


def _many(harmonizer: "Harmonizer", style: "TargetStyle", source: Path, out: Path, config: "BatchConfig") -> None:
    from gan_lib.harmonize_batch import harmonize_folder

    try:
        result = harmonize_folder(harmonizer, style, source, out, config)
    except (ValueError, OSError) as error:
        raise ended(error) from error
    _report(result, out)
    raise typer.Exit(FAILED if len(result.failures) else 0)


def _report(result: "BatchResult", out: Path) -> None:
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    counts = f"{len(result.made)} harmonised, {len(result.skipped)} were there, {len(result.failures)} failed"
    typer.echo(counts, err=True)
    for row in result.failures.head(SHOWN_FAILURES).itertuples():
        typer.echo(f"  {row.file}: {row.reason}. Fix: {row.fix}", err=True)
    if len(result.failures) > SHOWN_FAILURES:
        typer.echo(f"  ... and {len(result.failures) - SHOWN_FAILURES} more in {out / 'failures.csv'}", err=True)


if __name__ == "__main__":
    main()
