"""Tables with the paper's numbers and ours in columns of their own, by the names of the metrics contract.

What was not computed is left empty. Column names say whose the numbers are.
"""

from collections.abc import Callable

import pandas as pd

from study_lib import papers

Comparison = Callable[[dict[str, float], str], pd.DataFrame]
PAPER = "the paper"
RADIUS_PAIRS = {"Siemens to GE": "gmc_to_adni", "GE to Philips": "adni_to_smc"}
TASKS = {"ABIDE": "abide", "ADHD-200": "adhd200", "SRPBS": "srpbs"}
STRUCTURAL = ("smri_linear", "cnn")  # the baselines that see the T1 alone


def protocol_classification(metrics: dict[str, float], cohort: str) -> pd.DataFrame:
    """Accuracy of every pair of sites before and after harmonisation, in percent."""
    printed = papers.protocol_classification()
    table = printed.rename(columns={"before_percent": f"{PAPER}: before", "after_percent": f"{PAPER}: after"})
    for title, name in (("before", "before"), ("after, frozen", "after_frozen"), ("after, fresh", "after_fresh")):
        table[f"{cohort}: {title}"] = _rounded(
            [metrics.get(f"accuracy_{name}{_pair(pair)}") for pair in printed["pair"]]
        )
    return table


def _rounded(values: list[float | None]) -> pd.Series:
    """To the digits that the papers print."""
    return pd.Series(values, dtype=float).round(4)


def _pair(pair: str) -> str:
    return "" if pair == "Mean" else "_" + pair.lower().replace(", ", "_")


def cortical_radius(metrics: dict[str, float], cohort: str) -> pd.DataFrame:
    """Radius in mm of source, target and transferred volumes, and how far transfer went to the target, in percent."""
    printed = papers.cortical_radius()
    names = [f"radius_{RADIUS_PAIRS[pair]}_{side}" for pair, side in printed[["pair", "hemisphere"]].to_numpy()]
    places = ("source", "target", "transferred")
    ours = pd.DataFrame(
        {f"{place}_mm": _rounded([metrics.get(f"{name}_{place}") for name in names]) for place in places}
    )
    table = printed[["pair", "hemisphere"]].copy()
    for whose, radii in ((PAPER, printed), (cohort, ours)):
        source, target, transferred = (radii[f"{place}_mm"] for place in places)
        table[f"{whose}: source"], table[f"{whose}: target"] = source, target
        table[f"{whose}: transferred"] = transferred
        table[f"{whose}: change (%)"] = (100 * (transferred / source - 1)).round(1)
        table[f"{whose}: gap closed (%)"] = (100 * (transferred - source) / (target - source)).round(1)
    return table


def cinp_gains(metrics: dict[str, float], cohort: str) -> pd.DataFrame:
    """By how many points CINP on the image alone beats the best model on structural MRI."""
    printed = papers.cinp_gains()
    table = printed.rename(columns={"points": f"{PAPER}: points of accuracy"})
    table[f"{cohort}: points of balanced accuracy"] = _rounded(
        [_gain(metrics, TASKS[name]) for name in printed["data_set"]]
    )
    return table


def _gain(metrics: dict[str, float], task: str) -> float | None:
    own = metrics.get(f"{task}_cinp_balanced_accuracy")
    others = [metrics.get(f"{task}_{method}_balanced_accuracy") for method in STRUCTURAL]
    known = [value for value in others if value is not None]
    return None if own is None or not known else 100 * (own - max(known))
