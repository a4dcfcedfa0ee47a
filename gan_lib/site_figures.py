"""Figures of site classification: tables and slices in, a figure out. Chance is drawn, whiskers say of what."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gan_lib.figures import MAIN, NEUTRAL
from gan_lib.site_classifier.examples import SiteSlices

# One look per role: grey before, black for the hard test, open for the easy one.
LOOKS = {
    "before": {"color": NEUTRAL, "marker": "s", "label": "before"},
    "after_frozen": {"color": MAIN, "marker": "o", "markerfacecolor": "white", "label": "after, trained before"},
    "after_fresh": {"color": MAIN, "marker": "o", "label": "after, trained after"},
    "after": {"color": MAIN, "marker": "D", "label": "after (how it was trained is not said)"},
}
WHISKERS = "whiskers: 95 % over subjects"


def pair_accuracies(ours: pd.DataFrame, papers: pd.DataFrame, cohort: str, title: str = "") -> Figure:
    """The study's table and ours, in panels of their own: one row per pair of sites, the mean last."""
    columns = {"before_percent": "before", "after_percent": "after"}
    theirs = papers.rename(columns=columns).melt("pair", list(columns.values()), "attack", "accuracy")
    lowest = min(45.0, float(ours[["accuracy", "low"]].min(axis=None)) - 3)
    panels = {"the study (its own data)": theirs.assign(low=np.nan, high=np.nan), f"ours, {cohort}": ours}
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.8), sharex=True)
    for ax, (name, table) in zip(axes, panels.items(), strict=True):
        pairs = list(dict.fromkeys(table["pair"]))
        attacks = list(dict.fromkeys(table["attack"]))
        for k, attack in enumerate(attacks):
            own = table[table["attack"] == attack].set_index("pair").reindex(pairs)
            at = np.arange(len(pairs)) + (k - (len(attacks) - 1) / 2) * 0.22
            ax.errorbar(own["accuracy"], at, xerr=_ends(own), ls="none", ms=5, lw=0.9, **LOOKS[attack])
        ax.axhline(len(pairs) - 1.5, color=NEUTRAL, lw=0.6)
        _chance(ax, 50)
        ax.set_yticks(range(len(pairs)), pairs)
        ax.set(title=name, xlabel="balanced accuracy (%)" if table is ours else "accuracy (%)", xlim=(lowest, 101))
        ax.invert_yaxis()
        ax.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    figure.suptitle(f"{title}; {WHISKERS}" if title else WHISKERS)
    return figure


def attack_bars(
    table: pd.DataFrame, labels: Mapping[str, str], chance: float, title: str = "", dark: Sequence[str] = ()
) -> Figure:
    """One bar per attack in the order of `labels`, from chance on; `dark` ones are those that the text is about."""
    own = table.set_index("attack").reindex(list(labels))
    figure, ax = plt.subplots(figsize=(6.6, 0.36 * len(labels) + 1.3))
    at, ends = np.arange(len(own)), _ends(own)
    colours = [MAIN if name in dark else NEUTRAL for name in labels]
    ax.barh(at, own["accuracy"] - chance, left=chance, color=colours, height=0.55, alpha=0.75)
    ax.errorbar(own["accuracy"], at, xerr=ends, ls="none", color="#D55E00", lw=1.2)
    for y, value, beyond in zip(at, own["accuracy"], np.nan_to_num(ends[1]), strict=True):
        ax.text(max(value + beyond, chance) + 0.8, y, f"{value:.1f}", va="center", fontsize=7)
    _chance(ax, chance)
    ax.set_yticks(at, list(labels.values()))
    ax.set(xlabel=f"balanced accuracy (%); {WHISKERS}", xlim=(min(chance, own["accuracy"].min()) - 4, 108), title=title)
    ax.invert_yaxis()
    return figure


def confusions(matrices: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """`results.confusion` of several attacks on one scale: true sites down, answers across."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(2.6 * len(matrices) + 0.9, 2.9), squeeze=False)
    for ax, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        image = ax.imshow(matrix, cmap="viridis", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(matrix.to_numpy()):
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color="w" if value < 55 else "k", fontsize=8)
        ax.set_xticks(range(matrix.shape[1]), matrix.columns)
        ax.set_yticks(range(matrix.shape[0]), matrix.index)
        ax.set(title=name, xlabel="said to be from", ylabel="" if ax is not axes[0, 0] else "from")
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of a site's slices")
    figure.suptitle(title)
    return figure


def looks_at_validation(records: Mapping[str, pd.DataFrame], chance: float, title: str = "") -> Figure:
    """What each training reached on validation subjects at every look."""
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.0))
    for k, (name, table) in enumerate(records.items()):
        look = {"color": plt.get_cmap("tab10")(k % 10), "label": name, "marker": "o", "ms": 3, "lw": 1.0}
        axes[0].plot(table["step"], table["validation_loss"], **look)
        axes[1].plot(table["step"], 100 * table["validation_accuracy"], **look)
    axes[1].axhline(chance, color=MAIN, ls=":", lw=0.9)
    axes[1].annotate("chance", (0.99, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    axes[0].set(xlabel="step", title="cross-entropy")
    axes[1].set(xlabel="step", title="balanced accuracy (%)")
    axes[0].legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    return figure


def attention_rows(
    rows: Mapping[str, tuple[SiteSlices, Float[np.ndarray, "slice height width"]]], title: str = ""
) -> Figure:
    """For each state a row of slices, one per site, under what speaks for their own site; one scale per row."""
    first = next(iter(rows.values()))[0]
    figure, axes = plt.subplots(
        len(rows), len(first), figsize=(2.1 * len(first) + 0.8, 2.4 * len(rows) + 0.4), squeeze=False
    )
    for line, (name, (slices, maps)) in zip(axes, rows.items(), strict=True):
        top = max(float(maps.max()), 1e-9)
        for ax, image, attention, label in zip(line, slices.images, maps, slices.labels, strict=True):
            show_axial(ax, image, 1.0)
            seen = np.where(image > 0, attention, np.nan).astype(np.float32)
            layer = ax.imshow(seen, cmap="inferno", origin="lower", vmin=0, vmax=top, alpha=0.55)
            ax.set_title(f"from {slices.names[label]}")
        line[0].set_ylabel(name, fontsize=9)
        figure.colorbar(layer, ax=line, shrink=0.7, label="speaks for its site")
    figure.suptitle(title)
    return figure


def mark_panels(
    plain: Float[np.ndarray, "height width"], marked: Float[np.ndarray, "height width"], title: str = ""
) -> Figure:
    """A slice without and with the planted mark, and the mark alone on a scale of its own."""
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 2.8))
    plain, marked = plain.astype(np.float32), marked.astype(np.float32)
    for ax, image, name in zip(axes[:2], (plain, marked), ("plain", "marked"), strict=True):
        show_axial(ax, image, 1.0)
        ax.set_title(name)
    largest = float(np.abs(marked - plain).max())
    show_axial(axes[2], marked - plain, largest, "RdBu_r", -largest)
    plt.setp(axes[2].texts, color=MAIN)  # the background is white here
    axes[2].set_title("marked - plain")
    figure.colorbar(axes[2].images[0], ax=axes[2], shrink=0.7)
    figure.suptitle(title)
    return figure


def show_axial(ax: Axes, image: np.ndarray, high: float, cmap: str = "gray", low: float = 0.0) -> None:
    """An axial slice, nose up, the side of the body marked."""
    ax.imshow(image.astype(np.float32), cmap=cmap, origin="lower", vmin=low, vmax=high)
    ax.set(xticks=[], yticks=[])
    for x, side in ((0.05, "L"), (0.95, "R")):
        ax.text(x, 0.03, side, color="white", fontsize=7, ha="center", transform=ax.transAxes)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _chance(ax: Axes, chance: float) -> None:
    ax.axvline(chance, color=MAIN, ls=":", lw=0.9)
    ax.annotate("chance", (chance, 1.0), xycoords=("data", "axes fraction"), fontsize=7, ha="center", va="bottom")


def _ends(table: pd.DataFrame) -> np.ndarray:
    """Lengths of whiskers; none where there is no interval."""
    value = table["accuracy"].to_numpy(float)
    return np.nan_to_num(np.abs(table[["low", "high"]].to_numpy(float).T - value))
