import math

import pytest

from study_lib.sources.acquisition import acquisition, repetition_kind

# Sidecars as the OpenNeuro data sets have them, cut to what is read.
SIEMENS = {
    "Manufacturer": "Siemens",
    "MagneticFieldStrength": 3,
    "ScanningSequence": "GR\\IR",
    "SequenceVariant": "SK\\SP\\MP\\OSP",
    "SequenceName": "*tfl3d1_16ns",
    "ProtocolName": "T1_p2_1mm_fov256_sag_TI_880",
    "EchoTime": 0.00203,
    "RepetitionTime": 2,
    "InstitutionName": "The  John Radcliffe",
}
PHILIPS = {
    "Manufacturer": "Philips",
    "MagneticFieldStrength": 3,
    "ScanningSequence": "GR",
    "SequenceVariant": "MP",
    "ProtocolName": "WIP T1_1mm_sag",
    "EchoTime": 0.003201,
    "RepetitionTime": 0.0070707,
}
GE = {
    "Manufacturer": "GE",
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "PulseSequenceName": "mprage",
    "EchoTime": 0.00292,
    "RepetitionTime": 0.006952,
}
CNP = {"ManufacturerModelName": "TrioTim", "SequenceName": "*tfl3d1_ns", "RepetitionTime": 2.53, "EchoTime": 0.00331}


@pytest.mark.parametrize(
    ("sidecar", "vendor", "echo_ms", "repetition_ms", "kind"),
    [
        (SIEMENS, "Siemens", 2.03, 2000, "inversion"),
        (PHILIPS, "Philips", 3.201, 7.0707, "excitation"),
        (GE, "GE", 2.92, 6.952, "excitation"),
        (CNP, "Siemens", 3.31, 2530, "inversion"),
    ],
    ids=["Siemens", "Philips", "GE", "no maker named"],
)
def test_two_seconds_and_seven_milliseconds_come_out_in_one_unit_and_with_their_kind(
    sidecar, vendor, echo_ms, repetition_ms, kind
):
    found = acquisition(sidecar)
    assert (found.vendor, found.sequence, found.repetition_time_kind) == (vendor, "MPRAGE", kind)
    assert found.echo_time_ms == echo_ms and found.repetition_time_ms == repetition_ms
    assert found.doubts == ()


def test_a_sidecar_that_says_nothing_gives_empty_cells():
    found = acquisition({})
    assert found.vendor == found.sequence == found.repetition_time_kind == found.institution == ""
    assert math.isnan(found.echo_time_ms) and math.isnan(found.field_strength_t) and found.doubts == ()


def test_times_that_can_only_be_milliseconds_are_read_as_such_and_doubted():
    found = acquisition({"RepetitionTime": 2530, "EchoTime": 3.31})
    assert (found.repetition_time_ms, found.echo_time_ms) == (2530, 3.31)
    assert [column for column, _ in found.doubts] == ["echo_time_ms", "repetition_time_ms"]
    assert "too long for seconds" in found.doubts[0][1]


def test_impossible_values_leave_the_cell_empty_and_say_why():
    found = acquisition({"RepetitionTime": 0, "MagneticFieldStrength": 30})
    assert math.isnan(found.repetition_time_ms) and math.isnan(found.field_strength_t)
    assert {column for column, _ in found.doubts} == {"repetition_time_ms", "field_strength_t"}


def test_a_field_in_gauss_is_tesla():
    assert acquisition({"MagneticFieldStrength": 15000}).field_strength_t == 1.5


def test_one_echo_time_per_echo_is_no_number():
    assert math.isnan(acquisition({"EchoTime": [0.0017, 0.0036]}).echo_time_ms)


def test_a_newer_sidecar_may_name_only_the_preparation_time():
    found = acquisition({"RepetitionTimePreparation": 2.3})
    assert (found.repetition_time_ms, found.repetition_time_kind) == (2300, "inversion")


@pytest.mark.parametrize(
    ("maker", "name"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("Philips Medical Systems", "Philips"),
        ("Phillips", "Philips"),
        ("SIEMENS", "Siemens"),
        ("Siemens_Healthineers", "Siemens"),
        ("CANON", "Canon"),
    ],
)
def test_makers_have_one_name(maker, name):
    assert acquisition({"Manufacturer": maker}).vendor == name


def test_the_institution_keeps_its_spelling_but_not_its_blanks():
    assert acquisition(SIEMENS).institution == "The John Radcliffe"


def test_between_the_conventions_there_is_no_kind():
    assert repetition_kind(400.0) == "" and repetition_kind(float("nan")) == ""


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("t1_mpr_cor", "MPRAGE"),
        ("3D TFE", "TFE"),
        ("Fast SPGR", "SPGR"),
        ("SAG FSPGR BRAVO", "BRAVO"),
        ("MP-RAGE", "MPRAGE"),
    ],
)
def test_sequences_are_known_by_their_names(name, sequence):
    assert acquisition({"ProtocolName": name}).sequence == sequence
