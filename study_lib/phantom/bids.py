"""Where the phantom's files lie and what they look like: BIDS, fMRIPrep-style derivatives, and a truth folder."""

import gzip
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from study_lib.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from study_lib.grid import Grid
from study_lib.phantom import bold
from study_lib.phantom.acquisition import SCANNERS, Scanner, tissue_signals
from study_lib.phantom.atlas import ATLAS_NAME, N_CORTICAL, load_atlas
from study_lib.phantom.connectome import REPETITION_TIME_S, edge_effects
from study_lib.phantom.people import Person
from study_lib.phantom.traits import N_TRAITS, anatomy_shift, load_trait_map, network_shift
from study_lib.volume import resample

SPACE = "MNI152NLin2009aSym"
DERIVATIVES = "derivatives/fmriprep"
ATLAS_STEM = f"derivatives/atlas/tpl-{SPACE}_atlas-{ATLAS_NAME}_res-02"
TRUTH = "truth"
PHANTOM_NOTE = "Simulated: a phantom, not images of people."
_SCANNER_CODE, _MNI_CODE = 1, 4  # NIfTI's names for the space that an affine leads to
_STORED_MAXIMUM = 32_000
AFFECTED_EDGE_D = 0.2


@dataclass(frozen=True)
class Scan:
    """One visit of one subject to one scanner."""

    subject: str
    session: str
    scanner: Scanner

    def path(self, suffix: str, derivative: bool = False) -> str:
        """The relative path of one of its anatomical files."""
        parts = [f"sub-{self.subject}"] + ([f"ses-{self.session}"] if self.session else [])
        root = f"{DERIVATIVES}/" if derivative else ""
        return f"{root}{'/'.join(parts)}/anat/{'_'.join(parts)}_{suffix}"


def write_head(folder: Path, scan: Scan, image: np.ndarray, shares: Mapping[str, np.ndarray], affine) -> None:
    """The T1w with its sidecar, brain mask, tissue labels and tissue shares, all as the scanner stores its axes."""
    axes = scan.scanner.orientation
    stored = np.minimum(image, _STORED_MAXIMUM)
    if scan.scanner.vendor != "Philips":  # Philips stores numbers with a scale, the others plain integers
        stored = np.rint(stored).astype(np.int16)
    write_image(folder / scan.path("T1w.nii.gz"), stored, affine, axes=axes, scaled=True)
    atomic_write_json(folder / scan.path("T1w.json"), _sidecar(scan.scanner))
    grey = shares["grey"] + shares["deep"]
    tissues = {"GM": grey, "WM": shares["white"], "CSF": shares["fluid"] * (shares["brain"] > 0.5)}
    brain = shares["brain"] > 0.5
    labels = np.where(brain, 1 + np.argmax(np.stack(list(tissues.values())), axis=0), 0)
    for suffix, data in (("desc-brain_mask.nii.gz", brain), ("dseg.nii.gz", labels)):
        write_image(folder / scan.path(suffix, derivative=True), data.astype(np.uint8), affine, axes=axes)
    for tissue, share in tissues.items():
        percent = np.rint(100 * np.clip(share, 0, 1)).astype(np.uint8)
        path = folder / scan.path(f"label-{tissue}_probseg.nii.gz", derivative=True)
        write_image(path, percent, affine, axes=axes, slope=0.01)


def write_bold(folder: Path, subject: str, volume: np.ndarray, confounds: pd.DataFrame, description: dict) -> None:
    """Preprocessed BOLD in MNI space with mask, sidecar and confounds."""
    stem = f"{DERIVATIVES}/sub-{subject}/func/sub-{subject}_task-rest"
    grid = bold.load_grid()
    space = f"{stem}_space-{SPACE}"
    counts = np.rint(volume).astype(np.int16)
    image_path = folder / f"{space}_desc-preproc_bold.nii.gz"
    write_image(image_path, counts, grid.affine, code=_MNI_CODE, repetition_time_s=REPETITION_TIME_S)
    mask_path = folder / f"{space}_desc-brain_mask.nii.gz"
    write_image(mask_path, grid.brain.astype(np.uint8), grid.affine, code=_MNI_CODE)
    sidecar = {"RepetitionTime": REPETITION_TIME_S, "TaskName": "rest", "SkullStripped": False}
    atomic_write_json(folder / f"{space}_desc-preproc_bold.json", sidecar)
    write_table(folder / f"{stem}_desc-confounds_timeseries.tsv", confounds, decimals=6)
    atomic_write_json(folder / f"{stem}_desc-confounds_timeseries.json", description)


def write_series(folder: Path, subject: str, series: np.ndarray) -> None:
    """Region series as a table with one named column per region."""
    path = folder / DERIVATIVES / f"sub-{subject}/func/sub-{subject}_task-rest_atlas-{ATLAS_NAME}_timeseries.tsv"
    buffer = io.StringIO()
    np.savetxt(buffer, series, "%.3f", delimiter="\t", header="\t".join(load_atlas().names), comments="")
    atomic_write_text(path, buffer.getvalue())
    atomic_write_json(path.with_suffix(".json"), {"SamplingFrequency": 1 / REPETITION_TIME_S, "TaskName": "rest"})


def write_true_labels(folder: Path, subject: str, shares, regions: np.ndarray, affine: np.ndarray) -> None:
    """0 background and fluid, 1 grey, 2 white; and the regions; on the common 2 mm grid."""
    grey, white = shares["grey"] + shares["deep"], shares["white"]
    other = 1 - grey - white
    labels = np.argmax(np.stack([other, grey, white]), axis=0).astype(np.uint8)
    stem = folder / TRUTH / f"sub-{subject}" / f"sub-{subject}_space-{SPACE}_res-02"
    write_image(Path(f"{stem}_dseg.nii.gz"), labels, affine, code=_MNI_CODE)
    write_image(Path(f"{stem}_atlas-{ATLAS_NAME}_dseg.nii.gz"), regions.astype(np.uint8), affine, code=_MNI_CODE)


def write_tables(folder: Path, people: list[Person]) -> None:
    """What describes the data set as a whole: its name, its participants, its atlas."""
    atomic_write_json(folder / "dataset_description.json", _description("raw"))
    atomic_write_json(folder / DERIVATIVES / "dataset_description.json", _description("derivative"))
    atomic_write_text(folder / "README", PHANTOM_NOTE + " Made by study_lib.phantom.\n")
    participants = pd.DataFrame(
        {
            "participant_id": [f"sub-{p.subject}" for p in people],
            "family_id": [p.family for p in people],
            "cohort": [p.cohort for p in people],
            "age": [p.age_years for p in people],
            "sex": [p.sex for p in people],
            "diagnosis": [p.diagnosis for p in people],
            "role": [p.role for p in people],
        }
    )
    write_table(folder / "participants.tsv", participants)
    _write_atlas(folder)


def write_truth(folder: Path, people: list[Person], truths: list) -> None:
    """What no real cohort has: everybody's thickness, volumes, traits and network as they are."""
    subjects = pd.Index([p.subject for p in people], name="subject")
    regions = pd.read_csv(folder / f"{ATLAS_STEM}_dseg.tsv", sep="\t")["name"].tolist()
    cortical = regions[:N_CORTICAL]
    trait_names = [f"trait_{k + 1:02d}" for k in range(N_TRAITS)]
    tables = {
        "thickness_mm": ([t.thickness_mm for t in truths], cortical),
        "hemisphere_thickness_mm": ([t.hemisphere_thickness_mm for t in truths], ["left", "right"]),
        "log_volume": ([t.log_volume for t in truths], regions),
        "anatomy_traits": ([t.anatomy_traits for t in truths], trait_names),
        "network_traits": ([t.network_traits for t in truths], trait_names),
    }
    for name, (rows, columns) in tables.items():
        frame = pd.DataFrame(np.array(rows), index=subjects, columns=columns).reset_index()
        write_table(folder / TRUTH / f"{name}.tsv", frame, decimals=4)
    functional = [(p.subject, t.network) for p, t in zip(people, truths, strict=True) if t.network.size]
    write_table(folder / TRUTH / "networks.tsv", pd.DataFrame({"subject": [s for s, _ in functional]}))
    write_array(folder / TRUTH / "networks.npy", np.array([n for _, n in functional], np.float32))


def write_image(path: Path, data, affine, *, axes="RAS", code=_SCANNER_CODE, **storage) -> None:
    """Write a NIfTI whose bytes depend on its content alone.

    `storage`: `scaled` stores floats as 16-bit integers with a scale, `slope` says what one step of integers is worth,
    `repetition_time_s` is a 4D image's.
    """
    image = nib.Nifti1Image(data, affine)
    if storage.get("scaled"):
        image.set_data_dtype(np.int16)
    if "slope" in storage:
        image.header.set_slope_inter(storage["slope"], 0)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm", "sec")
    if "repetition_time_s" in storage:
        image.header.set_zooms((*image.header.get_zooms()[:3], storage["repetition_time_s"]))
    if axes != "RAS":
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
        image = image.as_reoriented(turn)
    atomic_write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_table(path: Path, table: pd.DataFrame, decimals: int = 3) -> None:
    """A BIDS table: tabs, `n/a` for what is missing."""
    text = table.to_csv(sep="\t", index=False, na_rep="n/a", float_format=f"%.{decimals}f", lineterminator="\n")
    atomic_write_text(path, text)


def write_array(path: Path, array: np.ndarray) -> None:
    """One array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    atomic_write_bytes(path, buffer.getvalue())


def _sidecar(scanner: Scanner) -> dict:
    """Acquisition facts in BIDS's words and units (seconds, tesla)."""
    return {
        "Manufacturer": scanner.vendor,
        "InstitutionName": scanner.name,
        "MagneticFieldStrength": scanner.field_strength_t,
        "ProtocolName": scanner.sequence,
        "EchoTime": scanner.echo_time_ms / 1000,
        "RepetitionTime": scanner.repetition_time_ms / 1000,
        "FlipAngle": scanner.flip_angle_degrees,
    }


def _description(kind: str) -> dict:
    return {
        "Name": "Built-in phantom cohort",
        "BIDSVersion": "1.10.0",
        "DatasetType": kind,
        "License": "Apache-2.0",
        "GeneratedBy": [{"Name": "study_lib.phantom", "Description": PHANTOM_NOTE}],
    }


def _write_atlas(folder: Path) -> None:
    atlas = load_atlas()
    labels = resample(nib.Nifti1Image(atlas.labels.astype(np.uint8), atlas.affine), Grid.isotropic(2.0), "nearest")
    write_image(folder / f"{ATLAS_STEM}_dseg.nii.gz", np.asarray(labels.dataobj), labels.affine, code=_MNI_CODE)
    table = pd.DataFrame({"index": np.arange(1, len(atlas.names) + 1), "name": atlas.names})
    table[["x", "y", "z"]] = atlas.centres.round(1)
    table["hemisphere"] = atlas.hemispheres
    write_table(folder / f"{ATLAS_STEM}_dseg.tsv", table, decimals=1)


def write_effects(folder: Path, people: list[Person], coupling: float) -> None:
    """What each scanner does, and which regions and edges carry the effect of the diagnoses at hand."""
    sites = {s.name: asdict(s) | {"tissue_signals": tissue_signals(s)} for s in SCANNERS.values()}
    atomic_write_json(folder / TRUTH / "sites.json", sites)
    names, diagnoses = np.array(load_atlas().names), sorted({p.diagnosis for p in people})
    regions = names[load_trait_map().affected_regions] if coupling > 0 else names[:0]
    effects = {
        "affected_regions": regions.tolist(),
        "affected_edges": {d: _affected_edges(d, names) for d in diagnoses},
        "anatomy_shift": {d: anatomy_shift(d, coupling).tolist() for d in diagnoses},
        "network_shift": {d: network_shift(d).tolist() for d in diagnoses},
    }
    atomic_write_json(folder / TRUTH / "effects.json", effects)


def _affected_edges(diagnosis: str, names: np.ndarray) -> list[list]:
    """[region, region, d] of every edge that the disorder moves by at least `AFFECTED_EDGE_D`."""
    effects = np.triu(edge_effects(diagnosis), 1)
    return [
        [str(names[i]), str(names[j]), round(float(effects[i, j]), 3)]
        for i, j in np.argwhere(np.abs(effects) >= AFFECTED_EDGE_D)
    ]
