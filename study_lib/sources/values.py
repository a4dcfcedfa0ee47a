"""What the cells of phenotypic tables mean: missing values, ages, and words for sex and diagnosis."""

from collections.abc import Mapping

import pandas as pd

from study_lib.manifest import DIAGNOSES
from study_lib.manifest.columns import MISSING_MARKERS

SEX_WORDS: dict[str, str] = {
    **dict.fromkeys(("m", "male", "man", "boy"), "M"),
    **dict.fromkeys(("f", "female", "woman", "girl"), "F"),
}
DIAGNOSIS_WORDS: dict[str, str] = {
    **{code: code for code in DIAGNOSES},
    **dict.fromkeys(("con", "ctrl", "cn", "hc", "td", "tdc", "healthy", "healthy control", "normal"), "control"),
    **dict.fromkeys(("asd", "autism spectrum disorder"), "autism"),
    **dict.fromkeys(("mdd", "major depressive disorder"), "depression"),
    **dict.fromkeys(("schz", "scz", "sz"), "schizophrenia"),
    **dict.fromkeys(("bd", "bipolar disorder"), "bipolar"),
    **dict.fromkeys(("emci", "lmci", "mild cognitive impairment"), "mci"),
    **dict.fromkeys(("ad", "alzheimer's disease", "alzheimer"), "dementia"),
}
# "22-25", "89+", "30", "11.34"; a negative number such as -9999 is a missing value, not a range.
AGE_PATTERN = r"^(?P<low>\d+(?:\.\d+)?)\s*(?:(?:-|–|to)\s*(?P<high>\d+(?:\.\d+)?)|(?P<open>\+))?$"
OLDEST = 120.0


def is_missing(cells: pd.Series) -> pd.Series:
    """Which cells hold no value: empty, `n/a`, -9999 in any spelling, `pending`, …"""
    text = cells.str.strip().str.lower()
    return (text == "") | text.str.replace(r"\.0+$", "", regex=True).isin(MISSING_MARKERS)


def ages(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Ages in years, and which cells hold something that is no age of a living person.

    An age group counts as its middle ("22-25" is 23.5), an open one as its lower end ("36+" is 36): groups
    are given where the exact age would identify a person, and the middle is the least wrong single number.
    """
    missing = is_missing(cells)
    parts = cells.str.strip().str.extract(AGE_PATTERN)
    low, high = (pd.to_numeric(parts[name], errors="coerce").astype(float) for name in ("low", "high"))
    years = (low + high.fillna(low)) / 2
    bad = ~missing & ~(years.between(0, OLDEST, inclusive="neither") & ~(high < low))
    return years.where(~bad), bad


def looked_up(cells: pd.Series, values: Mapping[str, str]) -> pd.Series:
    """What `values` has for each cell, "" where it has nothing."""
    return pd.Series([values.get(cell, "") for cell in cells], index=cells.index, dtype=str)


def words(cells: pd.Series, codes: Mapping[str, str]) -> tuple[pd.Series, pd.Series]:
    """Codes for words or numbers ("" where missing), and which cells hold a word not among `codes`."""
    missing = is_missing(cells)
    text = cells.str.strip().str.lower().str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    coded = looked_up(text, {str(word).lower(): code for word, code in codes.items()}).mask(missing, "")
    return coded, (coded == "") & ~missing
