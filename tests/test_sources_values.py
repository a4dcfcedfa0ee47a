import math

import pandas as pd
import pytest

from study_lib.sources.values import SEX_WORDS, ages, is_missing, words


@pytest.mark.parametrize("cell", ["", " ", "n/a", "N/A", "NaN", "-9999", "-9999.0", "-999", "pending", "withheld"])
def test_words_and_numbers_that_stand_for_nothing_are_missing(cell):
    assert is_missing(pd.Series([cell]))[0]


def test_zero_and_words_are_values():
    assert not is_missing(pd.Series(["0", "control", "-1", "9999"])).any()


@pytest.mark.parametrize(
    ("cell", "years"),
    [("30", 30.0), ("11.3386", 11.3386), ("22-25", 23.5), ("26 - 30", 28.0), ("36+", 36.0), ("89+", 89.0)],
)
def test_an_age_group_is_its_middle_and_an_open_one_its_lower_end(cell, years):
    found, bad = ages(pd.Series([cell]))
    assert found[0] == pytest.approx(years) and not bad[0]


@pytest.mark.parametrize("cell", ["0", "230", "abc", "-5", "120", "30-20", "12 months"])
def test_an_age_that_nobody_has_is_bad_and_becomes_no_number(cell):
    found, bad = ages(pd.Series([cell]))
    assert bad[0] and math.isnan(found[0])


def test_a_missing_age_is_no_fault():
    found, bad = ages(pd.Series(["-9999", "n/a", ""]))
    assert found.isna().all() and not bad.any()


def test_words_are_coded_without_regard_to_case_and_unknown_ones_are_told():
    coded, unknown = words(pd.Series(["Female", "m", "n/a", "other"]), SEX_WORDS)
    assert coded.tolist() == ["F", "M", "", ""] and unknown.tolist() == [False, False, False, True]


def test_a_code_written_as_a_float_is_the_code():
    coded, unknown = words(pd.Series(["1.0", "2", "3"]), {"1": "autism", "2": "control"})
    assert coded.tolist()[:2] == ["autism", "control"] and unknown.tolist() == [False, False, True]
