"""The columns of a manifest and the codes that may stand in them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["label", "code", "number", "path", "checksum"]


@dataclass(frozen=True)
class Column:
    """One column: what it holds, in which unit, and whether a cell may be empty."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    unit: str = ""


# The order is that of the CSV.
COLUMN_SPECS: tuple[Column, ...] = (
    Column("subject", "label", "pseudonymous id, unique across cohorts; a BIDS label without 'sub-'", True),
    Column("family", "label", "id of the family; the subject's own id when unrelated or not known", True),
    Column("session", "label", "BIDS session label without 'ses-'"),
    Column("cohort", "label", "data set, e.g. abide, qtim, adni, phantom-abide", True),
    Column("site", "label", "scanner or site, e.g. ADNI, GMC, NYU", True),
    Column("vendor", "label", "maker of the scanner: GE, Philips, Siemens, or another in title case"),
    Column("field_strength_t", "number", "field strength", unit="T"),
    Column("sequence", "label", "pulse sequence of the T1w, e.g. MPRAGE, TFE"),
    Column("echo_time_ms", "number", "echo time of the T1w", unit="ms"),
    Column("repetition_time_ms", "number", "repetition time of the T1w, see its kind", unit="ms"),
    Column(
        "repetition_time_kind",
        "code",
        "what the repetition time counts: 'inversion' from one inversion pulse to the next (about 2000 ms), "
        "'excitation' from one excitation to the next (about 7 ms)",
    ),
    Column("age_years", "number", "age at the scan", unit="years"),
    Column("sex", "code", "F or M"),
    Column("diagnosis", "code", "a code of DIAGNOSES", True),
    Column("role", "code", "what the scan is used for", True),
    Column("t1w", "path", "T1-weighted volume, 3D NIfTI"),
    Column("t1w_mask", "path", "brain mask on the grid of the T1w"),
    Column("bold", "path", "functional run, 4D NIfTI"),
    Column("confounds", "path", "confounds of the functional run, TSV"),
    Column("time_series", "path", "regional time series, where the volumes are not at hand"),
    Column("t1w_sha256", "checksum", "SHA-256 of the file in t1w"),
    Column("bold_sha256", "checksum", "SHA-256 of the file in bold"),
    Column("time_series_sha256", "checksum", "SHA-256 of the file in time_series"),
)
COLUMNS: tuple[str, ...] = tuple(column.name for column in COLUMN_SPECS)

DIAGNOSES: dict[str, str] = {
    "control": "healthy or typically developing control",
    "autism": "autism spectrum disorder, any subtype",
    "adhd": "attention-deficit/hyperactivity disorder, subtype not given",
    "adhd_combined": "ADHD, combined presentation",
    "adhd_hyperactive": "ADHD, predominantly hyperactive-impulsive presentation",
    "adhd_inattentive": "ADHD, predominantly inattentive presentation",
    "depression": "major depressive disorder",
    "dysthymia": "persistent depressive disorder",
    "bipolar": "bipolar disorder",
    "schizophrenia": "schizophrenia or schizoaffective disorder",
    "ocd": "obsessive-compulsive disorder",
    "anxiety": "an anxiety disorder",
    "pain": "chronic pain",
    "stroke": "stroke",
    "subjective_memory": "subjective or significant memory concern without impairment",
    "mci": "mild cognitive impairment",
    "dementia": "dementia, Alzheimer's or other",
    "other": "a diagnosis that none of these codes names",
    "unknown": "not known or withheld; such a scan can serve pre-training and harmonisation",
}

ROLES: dict[str, str] = {
    "pre-training": "CINP pre-training; never in evaluation",
    "train": "fits a model",
    "validation": "chooses settings",
    "test": "evaluates",
    "travelling": "one person at several sites; evaluates harmonisation, never trains",
    "unassigned": "not yet split",
}

SEXES = ("", "F", "M")
REPETITION_TIME_KINDS = ("", "inversion", "excitation")

# What real tables write for "no value". In a manifest only the empty cell means that.
MISSING_MARKERS = frozenset(
    {"-9999", "-9999.0", "-999", "n/a", "na", "nan", "none", "null", "missing", "pending", "withheld"}
    | {"no_filename", "#n/a", "<na>", "?", "."}
)


def column_names(kinds: Iterable[Kind], required: bool | None = None) -> list[str]:
    """Names of the columns of these kinds, in order; `required` narrows them to (non-)required ones."""
    kinds = set(kinds)
    return [c.name for c in COLUMN_SPECS if c.kind in kinds and required in (None, c.required)]


def is_missing_marker(value: object) -> bool:
    """Whether a cell holds a word or number that elsewhere stands for a missing value."""
    return str(value).strip().lower() in MISSING_MARKERS
