"""Figures of pre-training: arrays in, figures out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from study_lib import curves
from study_lib.figures import OTHER_COLOURS, show_slice, site_palette
from study_lib.shapes import Volume

PANELS = {
    "losses": ("contrastive", "reconstruction", "matching"),
    "temperature": ("tau",),
    "validation: own partner first": ("validation_r1", "validation_reciprocal_rank"),
    "validation: loss": ("validation_contrastive", "validation_reconstruction"),
}


def live_curves(records: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Losses, temperature, and what validation subjects say; an empty figure before there is a record."""
    return curves.live_curves(records, PANELS, title)


def similarity(values: Float[np.ndarray, "image network"], groups: Sequence[str], title: str = "") -> Figure:
    """Images down, networks across, in one order; the diagonal is each subject's own, lines are between groups."""
    figure, axes = plt.subplots(figsize=(4.8, 4.2))
    limit = float(np.abs(values).max())
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    edges = [0, *(k for k in range(1, len(groups)) if groups[k] != groups[k - 1]), len(groups)]
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="black", lw=0.6)
        axes.axvline(edge - 0.5, color="black", lw=0.6)
    middles = [(low + high - 1) / 2 for low, high in pairwise(edges)]
    names = [groups[low] for low in edges[:-1]]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.set(xlabel="network", ylabel="image", title=title)
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine similarity")
    return figure


def retrieval_bars(table: pd.DataFrame, title: str = "") -> Figure:
    """`retrieval_table` drawn: own partner first, mean of both ways, with its interval over subjects and chance."""
    figure, axes = plt.subplots(figsize=(1.4 * len(table) + 1.8, 2.8))
    places = np.arange(len(table))
    errors = np.maximum([table["first"] - table["low"], table["high"] - table["first"]], 0)
    axes.bar(places, table["first"], yerr=errors, width=0.6, color=OTHER_COLOURS[0], capsize=3)
    axes.hlines(table["chance"], places - 0.4, places + 0.4, color="black", ls="--", lw=1.2, label="chance")
    axes.set_xticks(places, [f"{row.gallery}\n(of {row.size:.0f})" for row in table.itertuples()])
    axes.set(ylabel="own partner first", title=title)
    axes.legend(frameon=False)
    return figure


def reconstructions(
    originals: Sequence[Volume], masks: Sequence[Bool[np.ndarray, "x y z"]], rebuilt: Sequence[Volume], title: str = ""
) -> Figure:
    """One row per head: as it is, as the encoder saw it, as the decoder gives it back; one grey scale, axial."""
    figure, axes = plt.subplots(len(originals), 3, figsize=(5.4, 1.9 * len(originals) + 0.4), squeeze=False)
    limits = (0.0, max(float(np.percentile(volume, 99.7)) for volume in originals))
    for row, (volume, mask, given) in enumerate(zip(originals, masks, rebuilt, strict=True)):
        for column, shown in enumerate((volume, np.where(mask, 0.0, volume), given)):
            show_slice(axes[row, column], shown, "axial", 0.5, limits)
    for ax, name in zip(axes[0], ("original", "masked", "rebuilt"), strict=True):
        ax.set_title(name)
    figure.suptitle(title)
    return figure


def embedding_map(
    places: Float[np.ndarray, "subject 2"], labels: Mapping[str, Sequence[str]], title: str = ""
) -> Figure:
    """The same points once for each entry of `labels`, coloured by it: the axes mean nothing by themselves."""
    figure, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels), 3.2), squeeze=False)
    for ax, (name, values) in zip(axes[0], labels.items(), strict=True):
        palette = site_palette(sorted(set(values)))
        sns.scatterplot(x=places[:, 0], y=places[:, 1], hue=list(values), palette=palette, s=14, ax=ax, linewidth=0)
        ax.set(xticks=[], yticks=[], title=f"by {name}")
        ax.legend(frameon=False, fontsize=6, markerscale=0.8)
    figure.suptitle(title)
    return figure
