"""Figures of the loss ablation: tables in, a figure out; chance is always drawn."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cinp_lib.ablations import CONTROLS, WHOLE

WHOLE_COLOUR, PART_COLOUR, CONTROL_COLOUR = "#0072B2", "#56B4E9", "#D55E00"


def losses(table: pd.DataFrame, labels: Mapping[str, str], chance: float, title: str = "") -> Figure:
    """Prompting (bars: 95 % interval over subjects) beside retrieval of unseen pairs; one row for each variant."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 0.34 * len(table) + 1.4), sharey=True, width_ratios=[2, 1])
    for place, row in enumerate(table.to_dict("records")):
        _interval(axes[0], row, "prompting", -place)
        axes[1].plot(row["retrieval_r1"], -place, "o", ms=5, color=colour(row["variant"]))
    _chance(axes[0], chance)
    _chance(axes[1], float(table["retrieval_r1_chance"].mean()))
    axes[0].set_yticks(-np.arange(len(table)), [labels[name] for name in table["variant"]])
    axes[0].set(xlabel="balanced accuracy of prompting\n(mean of two-class tasks)", ylim=(0.4 - len(table), 0.9))
    largest = table[["retrieval_r1", "retrieval_r1_chance"]].max(axis=None)
    axes[1].set(xlabel="own pair found first\n(unseen people)", xlim=(0, 1.15 * largest))
    figure.suptitle(title)
    return figure


def differences(table: pd.DataFrame, labels: Mapping[str, str], title: str = "") -> Figure:
    """How much better all three losses on true pairs are than each of the others; 0 is no difference."""
    figure, axes = plt.subplots(figsize=(5.6, 0.34 * len(table) + 1.3))
    for place, row in enumerate(table.to_dict("records")):
        _interval(axes, row, "difference", -place)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(-np.arange(len(table)), [labels[name] for name in table["variant"]])
    axes.set(xlabel="difference in balanced accuracy (95 % interval over subjects)", ylim=(0.4 - len(table), 0.6))
    axes.set_title(title)
    return figure


def tasks(table: pd.DataFrame, labels: Mapping[str, str], title: str = "") -> Figure:
    """Every task by itself, each with its chance."""
    names = list(dict.fromkeys(table["task"]))
    size = (2.6 * len(names) + 2.0, 0.34 * len(labels) + 1.3)
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        own = table[table["task"] == name]
        for row in own.to_dict("records"):
            _interval(ax, row, "balanced_accuracy", -list(labels).index(row["variant"]))
        _chance(ax, float(own["chance"].iloc[0]))
        ax.set(title=name, xlabel="balanced accuracy", ylim=(0.4 - len(labels), 0.9))
    axes[0, 0].set_yticks(-np.arange(len(labels)), list(labels.values()))
    figure.suptitle(title)
    return figure


def colour(variant: str) -> str:
    """One for the whole objective, one for parts of it, one for controls."""
    return WHOLE_COLOUR if variant == WHOLE else CONTROL_COLOUR if variant in CONTROLS else PART_COLOUR


def _interval(axes: Axes, row: Mapping, column: str, place: float) -> None:
    value = row[column]
    bars = [[value - row["low"]], [row["high"] - value]]
    axes.errorbar(value, place, xerr=bars, fmt="o", ms=5, lw=1.2, color=colour(row["variant"]))


def _chance(axes: Axes, chance: float) -> None:
    axes.axvline(chance, color="black", lw=0.8, ls=":")
    axes.text(chance, 0.62, " chance", fontsize=7, va="center")
