"""Figures of network prompting: tables and answers in, a figure out; chance is always drawn."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cinp_lib.prompt_answers import Answers

FRACTION_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7")
PROMPT_COLOUR, OTHER_COLOUR, ORACLE_COLOUR = "#0072B2", "#999999", "#000000"
CLASS_COLOURS = ("#999999", "#D55E00", "#CC79A7", "#56B4E9")
STYLES = {"mean": "-", "length 1": "--"}


def grid(table: pd.DataFrame, chances: Mapping[str, float], title: str = "") -> Figure:
    """Table 3: balanced accuracy against the number of subsets, one panel per task, one colour per share of networks.

    Bars are the middle 95 % of draws.
    """
    figure, axes = _panels(list(chances), 3.2)
    colours = dict(zip(sorted(set(table["fraction"])), FRACTION_COLOURS, strict=False))
    order = {r: place for place, r in enumerate(sorted(set(table["r"])))}
    for ax, (task, chance) in zip(axes, chances.items(), strict=True):
        for (fraction, kind), own in table[table["task"] == task].groupby(["fraction", "references"]):
            x = own["r"].map(order) + 0.06 * (list(colours).index(fraction) - 1) + 0.03 * (kind != "mean")
            bars = np.abs(own[["draws_low", "draws_high"]].T.to_numpy() - own["balanced_accuracy"].to_numpy())
            label = f"{fraction:.0%} of networks, {kind}"
            style = {"color": colours[fraction], "ls": STYLES[kind], "marker": "o", "ms": 3, "lw": 1, "elinewidth": 0.7}
            ax.errorbar(x, own["balanced_accuracy"], bars, label=label, **style)
        _chance(ax, chance)
        ax.set(title=task, xlabel="number of subsets r", xticks=list(order.values()), xticklabels=list(order))
    axes[0].set_ylabel("balanced accuracy,\nvalidation people (bars: 95 % of draws)")
    axes[-1].legend(frameon=False, fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    figure.suptitle(title)
    return figure


def methods(table: pd.DataFrame, labels: Mapping[str, str], chances: Mapping[str, float], title: str = "") -> Figure:
    """Every method on test people, one panel per task; bars are 95 % intervals over subjects."""
    figure, axes = _panels(list(chances), 3.0, sharey=True, height=0.32 * len(labels) + 1.2)
    places = {method: -k for k, method in enumerate(labels)}
    for ax, (task, chance) in zip(axes, chances.items(), strict=True):
        own = table[(table["task"] == task) & table["method"].isin(places)].set_index("method")
        for method, row in own.iterrows():
            bars = [[row["balanced_accuracy"] - row["low"]], [row["high"] - row["balanced_accuracy"]]]
            ax.errorbar(row["balanced_accuracy"], places[method], xerr=bars, fmt="o", ms=4, color=_colour(method))
        ax.axvline(chance, color="black", lw=0.8, ls=":")
        ax.text(chance, 0.7, " chance", fontsize=7, va="center")
        ax.set(title=task, xlabel="balanced accuracy", ylim=(0.4 - len(labels), 1.0))
        ax.set_yticks(list(places.values()), list(labels.values()))
    figure.suptitle(f"{title} (bars: 95 % interval over subjects)".strip())
    return figure


def margins(answers: Mapping[str, Answers], title: str = "") -> Figure:
    """How much more test people's images resemble the prompts of the disorder than those of controls, two classes each.

    Left of the line the answer is the first class; means over draws.
    """
    figure, axes = _panels(list(answers), 3.2)
    for ax, (task, own) in zip(axes, answers.items(), strict=True):
        margin = (own.scores[:, :, 1] - own.scores[:, :, 0]).mean(axis=0)
        bins = np.linspace(margin.min(), margin.max(), 25)
        for k, name in enumerate(own.classes):
            people = own.labels == k
            ax.hist(margin[people], bins, density=True, alpha=0.6, color=CLASS_COLOURS[k], label=name)
        ax.axvline(0, color="black", lw=0.8)
        ax.set(title=f"{task} (n = {own.subjects} subjects)", xlabel=f"score of {own.classes[1]} - {own.classes[0]}")
        ax.legend(frameon=False, fontsize=7)
    axes[0].set_ylabel("density")
    figure.suptitle(title)
    return figure


def cohort_seeds(values: Mapping[str, Sequence[float]], chances: Mapping[str, float], title: str = "") -> Figure:
    """One dot per cohort of the negative control; the line is their mean."""
    figure, axes = _panels(["control"], 1.4 * len(values) + 1.2)
    for place, (task, own) in enumerate(values.items()):
        axes[0].plot(np.full(len(own), place), own, "o", ms=4, color=PROMPT_COLOUR)
        axes[0].hlines(np.mean(own), place - 0.2, place + 0.2, color="black", lw=1.2)
        axes[0].hlines(chances[task], place - 0.35, place + 0.35, color="black", lw=0.8, ls=":")
    axes[0].set_xticks(range(len(values)), list(values))
    axes[0].set(ylabel="balanced accuracy", title=f"{title} (dotted: chance)".strip(), xlim=(-0.5, len(values) - 0.5))
    return figure


def _panels(names: Sequence[str], width: float, height: float = 3.0, sharey: bool = True) -> tuple[Figure, list]:
    figure, axes = plt.subplots(1, len(names), figsize=(width * len(names) + 1.2, height), sharey=sharey, squeeze=False)
    return figure, list(axes[0])


def _chance(ax: plt.Axes, chance: float) -> None:
    ax.axhline(chance, color="black", lw=0.8, ls=":")
    ax.text(0, chance, "chance", fontsize=7, va="bottom")


def _colour(method: str) -> str:
    if method.startswith("oracle"):
        return ORACLE_COLOUR
    return PROMPT_COLOUR if method.startswith("prompt") else OTHER_COLOUR
