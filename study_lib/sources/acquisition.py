"""How a T1w was acquired, from its sidecar, in the manifest's units and words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from study_lib.manifest.rules import INVERSION_FROM_MS
from study_lib.manifest.schema import ECHO_TIME_MS, FIELD_STRENGTH_T, REPETITION_TIME_MS

NAN = float("nan")
VENDORS = {"ge": "GE", "general": "GE", "philips": "Philips", "phillips": "Philips", "siemens": "Siemens"}
# For sidecars without a maker's name (CNP): models as the sidecars of ON-Harmony and ABIDE's table pair them.
MODELS = {
    **dict.fromkeys(("trio", "triotim", "prisma", "verio", "allegra", "medspec_4t"), "Siemens"),
    **dict.fromkeys(("achieva", "ingenia", "intera"), "Philips"),
    **dict.fromkeys(("mr750", "signa"), "GE"),
}
SEQUENCES = (
    (re.compile(r"mp[-_ ]?rage|memprage|(?<![a-z])mpr(?![a-z])|tfl", re.I), "MPRAGE"),
    (re.compile(r"(?<![a-z])tfe(?![a-z])", re.I), "TFE"),
    (re.compile(r"bravo", re.I), "BRAVO"),
    (re.compile(r"spgr", re.I), "SPGR"),
)
SEQUENCE_KEYS = (
    "PulseSequenceType",
    "PulseSequenceName",
    "SequenceName",
    "PulseSequenceDetails",
    "ProtocolName",
)
SEQUENCE_KEYS += ("SeriesDescription",)
# Between the two conventions lies a gap: gradient echoes repeat excitations faster, and inversions slower.
LONGEST_EXCITATION_MS = 100.0
# BIDS wants seconds. A T1w waits at most some 10 s between inversions and some 0.1 s for an echo, so that
# larger numbers can only be milliseconds.
LONGEST_REPETITION_S = 20.0
LONGEST_ECHO_S = 0.2
LIMITS = {
    "echo_time_ms": (LONGEST_ECHO_S, ECHO_TIME_MS),
    "repetition_time_ms": (LONGEST_REPETITION_S, REPETITION_TIME_MS),
}
# Older sidecars have the first, which both conventions use; the others say what they mean by their names.
REPETITION_KEYS = ("RepetitionTime", "RepetitionTimePreparation", "RepetitionTimeExcitation")
GAUSS_PER_TESLA = 10_000.0


Doubt = tuple[str, str]


@dataclass(frozen=True)
class Acquisition:
    """One T1w's acquisition; NaN and "" where the sidecar does not say.

    `doubts` are pairs of a column and what is odd about its value, for the warnings.
    """

    vendor: str = ""
    field_strength_t: float = NAN
    sequence: str = ""
    echo_time_ms: float = NAN
    repetition_time_ms: float = NAN
    repetition_time_kind: str = ""
    institution: str = ""
    doubts: tuple[Doubt, ...] = ()


def acquisition(sidecar: Mapping[str, object]) -> Acquisition:
    """Facts of a sidecar: times in ms, tesla, the vendor's short name, and which repetition time is meant."""
    tesla, tesla_doubts = _tesla(sidecar)
    echo, echo_doubts = _milliseconds(sidecar, "EchoTime", "echo_time_ms")
    key = next((key for key in REPETITION_KEYS if key in sidecar), REPETITION_KEYS[0])
    repetition, repetition_doubts = _milliseconds(sidecar, key, "repetition_time_ms")
    return Acquisition(
        vendor=vendor(sidecar),
        field_strength_t=tesla,
        sequence=sequence(sidecar),
        echo_time_ms=echo,
        repetition_time_ms=repetition,
        repetition_time_kind=repetition_kind(repetition),
        institution=" ".join(_text(sidecar, "InstitutionName").split()),
        doubts=(*tesla_doubts, *echo_doubts, *repetition_doubts),
    )


def vendor(sidecar: Mapping[str, object]) -> str:
    """GE, Philips, Siemens, or another maker in title case; from the model where no maker is named."""
    maker = _text(sidecar, "Manufacturer")
    if maker:
        return VENDORS.get(re.split(r"[\W_]", maker.lower())[0], maker.title())
    model = _text(sidecar, "ManufacturersModelName") or _text(sidecar, "ManufacturerModelName")
    return next((MODELS[part] for part in model.lower().split() if part in MODELS), "")


def sequence(sidecar: Mapping[str, object]) -> str:
    """MPRAGE, TFE, BRAVO or SPGR by the first name that tells; else by DICOM's codes."""
    for key in SEQUENCE_KEYS:
        for pattern, name in SEQUENCES:
            if pattern.search(_text(sidecar, key)):
                return name
    codes, variants = (_codes(sidecar, key) for key in ("ScanningSequence", "SequenceVariant"))
    if "GR" in codes and "MP" in variants:
        return "MPRAGE"  # a magnetisation-prepared gradient echo, whatever the protocol's name
    return "-".join(sorted(codes - {"RM"}))


def repetition_kind(repetition_time_ms: float) -> str:
    """The vendor's convention, told by size.

    Siemens counts from inversion to inversion (about 2000 ms), GE and Philips from excitation to excitation
    (about 7 ms). Values in the gap between them, and NaN, have no kind.
    """
    if repetition_time_ms >= INVERSION_FROM_MS:
        return "inversion"
    return "excitation" if repetition_time_ms <= LONGEST_EXCITATION_MS else ""


def _milliseconds(sidecar: Mapping[str, object], key: str, column: str) -> tuple[float, list[Doubt]]:
    value = _number(sidecar, key)
    if value != value:
        return NAN, []
    longest_s, (low, high) = LIMITS[column]
    time = value if value > longest_s else round(value * 1000, 6)  # 0.00331 s is 3.31 ms, not 3.3099999999999996
    doubts = [(column, f"{key} is {value:g}, too long for seconds: read as ms")] if value > longest_s else []
    if low <= time <= high:
        return time, doubts
    return NAN, [(column, f"{key} is {value:g}: no T1w has {time:g} ms, so the cell is left empty")]


def _tesla(sidecar: Mapping[str, object]) -> tuple[float, list[Doubt]]:
    value = _number(sidecar, "MagneticFieldStrength")
    tesla = value / GAUSS_PER_TESLA if value > GAUSS_PER_TESLA / 2 else value
    low, high = FIELD_STRENGTH_T
    if value != value or low <= tesla <= high:
        return tesla, []
    return NAN, [("field_strength_t", f"MagneticFieldStrength is {value:g}: left empty, as no scanner has it")]


def _number(sidecar: Mapping[str, object], key: str) -> float:
    try:
        return float(sidecar.get(key, NAN))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return NAN  # a list (one value per echo) or a word


def _text(sidecar: Mapping[str, object], key: str) -> str:
    value = sidecar.get(key, "")
    return value.strip() if isinstance(value, str) else ""


def _codes(sidecar: Mapping[str, object], key: str) -> set[str]:
    value = sidecar.get(key, "")
    text = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
    return set(re.split(r"[\W_]+", text)) - {""}
