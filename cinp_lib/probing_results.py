"""The study's Table 2 from test predictions: scores of every method with intervals, and differences to CINP's.

`found` everywhere holds the predictions of every method of every task: task -> method -> `Predictions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cinp_lib.predictions import Measure, Predictions
from study_lib.statistics import BootstrapSettings, holm

MEASURES: tuple[Measure, ...] = ("accuracy", "balanced_accuracy", "auroc", "sensitivity", "specificity")
REFERENCE = "cinp"
Found = Mapping[str, Mapping[str, Predictions]]


@dataclass(frozen=True)
class Row:
    """What a method is called in tables and figures, and what it sees."""

    label: str
    group: str


CINP, T1, FCN, BOTH, NEITHER = "CINP", "sMRI-based", "FCN-based", "multimodal", "neither"
# In the order of the table.
METHODS = {
    "cinp": Row("CINP, image", CINP),
    "cinp_network": Row("CINP, network", CINP),
    "cinp_both": Row("CINP, image and network", CINP),
    "components": Row("CINP's starting point, image", CINP),
    "linear_alignment": Row("linear alignment, image", CINP),
    "cinp_fine_tuned": Row("CINP, image, fine-tuned", CINP),
    "smri_linear": Row("regional intensities, SVM", T1),
    "smri_grey": Row("regional grey matter, SVM", T1),
    "smri_voxels": Row("voxels, SVM", T1),
    "cnn": Row("3D CNN", T1),
    "mim_only": Row("masked images only", T1),
    "random_encoder": Row("random encoder", T1),
    "fcn_linear": Row("edges, SVM", FCN),
    "fcn_ridge": Row("edges, ridge", FCN),
    "bnt": Row("BNT", FCN),
    "fusion": Row("early fusion", BOTH),
    "fusion_late": Row("late fusion", BOTH),
    "phenotype": Row("age, sex, site", NEITHER),
}


def method_scores(found: Found, settings: BootstrapSettings | None = None) -> pd.DataFrame:
    """Table 2: one row for each task and method, every measure with its interval over subjects."""
    rows = []
    for task, methods in found.items():
        for name in _ordered(methods):
            own = methods[name]
            row = {"task": task, "method": name, "label": METHODS[name].label, "group": METHODS[name].group}
            row |= {"folds": len(own.chosen), "subjects": own.subjects, "predictions": len(own)}
            summary = own.summary(settings)
            for measure in MEASURES:
                interval = summary[measure]
                row |= {measure: interval.value, f"{measure}_low": interval.low, f"{measure}_high": interval.high}
            rows.append(row | {name: summary[name] for name in ("majority_rate", "chance")})
    return pd.DataFrame(rows)


def differences(
    found: Found, measure: Measure = "balanced_accuracy", settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """CINP's image embedding less every other method, on the people and folds that both were asked about.

    The interval is a bootstrap over subjects; p is the corrected resampled t over folds, then Holm's over the methods
    of a task.
    """
    rows = []
    for task, methods in found.items():
        others = [name for name in _ordered(methods) if name != REFERENCE]
        own = methods[REFERENCE]
        tests = [own.paired_test(methods[name], measure) for name in others]
        corrected = holm([test.p_value for test in tests]) if tests else []
        for name, test, p_value in zip(others, tests, corrected, strict=True):
            interval = own.minus(methods[name], measure, settings)
            row = {"task": task, "method": name, "label": METHODS[name].label, "group": METHODS[name].group}
            row |= {"difference": interval.value, "low": interval.low, "high": interval.high, "subjects": interval.n}
            rows.append(row | {"p_value": test.p_value, "p_value_holm": float(p_value)})
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """By how many points of accuracy CINP beats the best sMRI-based and the best FCN-based method, as the study asks.

    The best one is taken by the numbers that are compared, so it is favoured.
    """
    rows = []
    for task, own in table.groupby("task", sort=False):
        ours = own.loc[own["method"] == REFERENCE, "accuracy"].item()
        for group in (T1, FCN):
            others = own[own["group"] == group]
            if len(others):
                best = others.loc[others["accuracy"].idxmax()]
                row = {"task": task, "group": group, "best": best["label"], "cinp_percent": 100 * ours}
                row |= {"best_percent": 100 * best["accuracy"], "points": 100 * (ours - best["accuracy"])}
                rows.append(row)
    return pd.DataFrame(rows)


def site_scores(found: Mapping[str, Predictions], settings: BootstrapSettings | None = None) -> pd.DataFrame:
    """Leave-one-site-out: task -> predictions; one row for each site, and one for all of them pooled."""
    rows = []
    for task, predictions in found.items():
        for site, own in {**predictions.at_sites(), "all": predictions}.items():
            interval = own.interval("balanced_accuracy", settings)
            row = {"task": task, "site": site, "subjects": own.subjects, "balanced_accuracy": interval.value}
            row |= {"low": interval.low, "high": interval.high, "auroc": own.value("auroc"), "chance": own.chance}
            rows.append(row)
    return pd.DataFrame(rows)


def probing_metrics(table: pd.DataFrame, versus: pd.DataFrame) -> dict[str, float]:
    """The names that the metrics contract gives them."""
    metrics = {}
    for row in table.to_dict("records"):
        metrics |= {f"{row['task']}_{row['method']}_{measure}": row[measure] for measure in MEASURES}
        if row["method"] == REFERENCE:
            ends = {f"{row['task']}_cinp_{end}": row[f"balanced_accuracy_{end}"] for end in ("low", "high")}
            metrics |= ends | {f"{row['task']}_{name}": row[name] for name in ("chance", "majority_rate")}
    for row in versus.to_dict("records"):
        name = f"{row['task']}_cinp_minus_{row['method']}"
        metrics |= {name: row["difference"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def _ordered(methods: Mapping[str, Predictions]) -> list[str]:
    """In the order of the table; a name that it does not have is refused."""
    if unknown := sorted(set(methods) - set(METHODS)):
        raise KeyError(f"method: expected one of {', '.join(METHODS)}, got {', '.join(unknown)}")
    if REFERENCE not in methods:
        raise KeyError(
            f"methods: expected {REFERENCE!r}, which the others are compared with, among {', '.join(methods)}"
        )
    return [name for name in METHODS if name in methods]
