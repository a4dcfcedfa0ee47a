"""Figures of probing: tables of `probing_results` in, a figure out. Chance is drawn; whiskers are over subjects."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cinp_lib.probing_results import BOTH, CINP, FCN, NEITHER, T1

# By what a method sees (Okabe and Ito 2008).
GROUP_COLOURS = {CINP: "#000000", T1: "#0072B2", FCN: "#D55E00", BOTH: "#CC79A7", NEITHER: "#999999"}
WHISKERS = "whiskers: 95 % over subjects"
POINTS = {"ls": "none", "marker": "o", "ms": 4, "lw": 1.0}


def method_panels(table: pd.DataFrame, measure: str, oracle: Mapping[str, float], title: str = "") -> Figure:
    """Table 2 as a figure: a panel for each task, a row for each method, coloured by what it sees."""
    tasks = list(dict.fromkeys(table["task"]))
    labels = list(dict.fromkeys(table["label"]))
    size = (2.9 * len(tasks) + 1.6, 0.26 * len(labels) + 1.5)
    figure, axes = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, task in zip(axes[0], tasks, strict=True):
        own = table[table["task"] == task]
        for group, rows in own.groupby("group", sort=False):
            at = [labels.index(label) for label in rows["label"]]
            ends = [rows[measure] - rows[f"{measure}_low"], rows[f"{measure}_high"] - rows[measure]]
            ax.errorbar(rows[measure], at, xerr=ends, color=GROUP_COLOURS[group], label=group, **POINTS)
        _chance(ax, own["chance"].iloc[0] if measure != "auroc" else 0.5)
        if task in oracle:
            ax.axvline(oracle[task], color="#009E73", ls="--", lw=0.9, label="oracle: true traits of the anatomy")
        ax.set(title=task, xlabel=measure.replace("_", " "))
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    _legend(figure, axes[0, 0], title)
    return figure


def difference_forest(table: pd.DataFrame, title: str = "") -> Figure:
    """CINP's image embedding less every other method; right of 0 it is better. Full dots: p < 0.05 after Holm."""
    tasks, labels = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["label"]))
    size = (2.9 * len(tasks) + 1.6, 0.26 * len(labels) + 1.5)
    figure, axes = plt.subplots(
        1, len(tasks), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for ax, task in zip(axes[0], tasks, strict=True):
        for row in table[table["task"] == task].itertuples():
            colour, full = GROUP_COLOURS[row.group], row.p_value_holm < 0.05
            ends = [[100 * (row.difference - row.low)], [100 * (row.high - row.difference)]]
            look = POINTS | {"color": colour, "markerfacecolor": colour if full else "white"}
            ax.errorbar([100 * row.difference], [labels.index(row.label)], xerr=ends, **look)
        ax.axvline(0, color="black", lw=0.7)
        ax.set(title=task, xlabel="CINP less the method (points)")
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    figure.suptitle(f"{title}; {WHISKERS}" if title else WHISKERS)
    return figure


def gains_beside(ours: pd.DataFrame, papers: pd.DataFrame, cohort: str, title: str = "") -> Figure:
    """Points of accuracy over the best sMRI-based method, the study's and ours in panels of their own."""
    own = ours[ours["group"] == T1]
    panels = {
        "the study (its own data)": (papers["data_set"].tolist(), papers["points"]),
        f"ours, {cohort}": (own["task"].tolist(), own["points"]),
    }
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.6), sharey=True)
    for ax, (name, (tasks, points)) in zip(axes, panels.items(), strict=True):
        ax.bar(range(len(tasks)), points, width=0.5, color=GROUP_COLOURS[CINP], alpha=0.75)
        for k, value in enumerate(points):
            ax.annotate(f"{value:.2f}", (k, value), ha="center", va="bottom" if value >= 0 else "top", fontsize=7)
        ax.axhline(0, color="black", lw=0.7)
        ax.set_xticks(range(len(tasks)), tasks)
        ax.set(title=name)
    axes[0].set_ylabel("points of accuracy over\nthe best sMRI-based method")
    figure.suptitle(title)
    return figure


def site_panels(table: pd.DataFrame, title: str = "") -> Figure:
    """Each site left out in turn: how well its people are told apart by a probe that has seen none of its scans."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(2.5 * len(tasks) + 1.0, 2.6), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, task in zip(axes[0], tasks, strict=True):
        own = table[table["task"] == task]
        ends = [own["balanced_accuracy"] - own["low"], own["high"] - own["balanced_accuracy"]]
        ax.errorbar(range(len(own)), own["balanced_accuracy"], yerr=ends, color=GROUP_COLOURS[CINP], **POINTS)
        ax.axhline(own["chance"].iloc[0], color=GROUP_COLOURS[NEITHER], ls=":", lw=0.9)
        ax.set_xticks(range(len(own)), own["site"])
        ax.set(title=task, xlabel="site left out")
    axes[0, 0].set_ylabel("balanced accuracy")
    figure.suptitle(f"{title}; {WHISKERS}" if title else WHISKERS)
    return figure


def before_and_after(table: pd.DataFrame, title: str = "") -> Figure:
    """Of each kind of scans (`scans`): how well site and diagnosis (`question`) are told. value, low, high, chance."""
    questions, kinds = (list(dict.fromkeys(table[name])) for name in ("question", "scans"))
    figure, axes = plt.subplots(1, len(questions), figsize=(2.6 * len(questions) + 0.8, 2.7), squeeze=False)
    for ax, question in zip(axes[0], questions, strict=True):
        own = table[table["question"] == question].set_index("scans").reindex(kinds)
        ends = [own["value"] - own["low"], own["high"] - own["value"]]
        ax.errorbar(range(len(kinds)), own["value"], yerr=ends, color=GROUP_COLOURS[T1], **POINTS)
        ax.axhline(own["chance"].iloc[0], color=GROUP_COLOURS[NEITHER], ls=":", lw=0.9)
        ax.set_xticks(range(len(kinds)), kinds)
        ax.set(title=question, xlim=(-0.5, len(kinds) - 0.5))
    axes[0, 0].set_ylabel("balanced accuracy")
    figure.suptitle(f"{title}; {WHISKERS}" if title else WHISKERS)
    return figure


def _chance(ax: Axes, chance: float) -> None:
    ax.axvline(chance, color=GROUP_COLOURS[NEITHER], ls=":", lw=0.9, label="chance")


def _legend(figure: Figure, ax: Axes, title: str) -> None:
    handles, names = ax.get_legend_handles_labels()
    kept = dict(zip(names, handles, strict=True))
    figure.legend(kept.values(), kept.keys(), frameon=False, fontsize=7, loc="outside lower center", ncols=4)
    figure.suptitle(f"{title}; {WHISKERS}" if title else WHISKERS)
