"""Figures that both studies use: arrays in, a figure out. One colour per role, grey for MRI, limits shared."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stay apart in the common kinds of colour blindness (Okabe and Ito 2008).
SITE_COLOURS = {"SMC": "#0072B2", "ADNI": "#D55E00", "GSEV": "#E69F00", "GMC": "#009E73"}
OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#999999", "#F0E442", "#000000")
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
}


def use_style() -> None:
    """Set the shared look for all figures that follow."""
    sns.set_theme(context="paper", style="ticks", rc=STYLE)


def site_palette(sites: Sequence[str]) -> dict[str, str]:
    """A fixed colour for each of the study's four sites, and colours in order for any others."""
    others = [site for site in sites if site not in SITE_COLOURS]
    few = len(others) <= len(OTHER_COLOURS)
    wheel = OTHER_COLOURS if few else sns.husl_palette(len(others)).as_hex()
    colours = dict(zip(others, wheel, strict=False))
    return {site: SITE_COLOURS.get(site) or colours[site] for site in sites}


def montage(
    volumes: Mapping[str, np.ndarray], where: Sequence[tuple[str, float]] = (("axial", 0.5),), title: str = ""
) -> Figure:
    """One column per RAS volume and one row per (plane, position from 0 to 1), all on one grey scale."""
    limits = (0.0, max(float(np.percentile(volume, 99.7)) for volume in volumes.values()))
    size = (1.9 * len(volumes) + 0.3, 2.1 * len(where) + 0.4)
    figure, axes = plt.subplots(len(where), len(volumes), figsize=size, squeeze=False)
    for column, (name, volume) in enumerate(volumes.items()):
        axes[0, column].set_title(name)
        for row, (plane, position) in enumerate(where):
            show_slice(axes[row, column], volume, plane, position, limits)
    figure.suptitle(title)
    return figure


def show_slice(axes: Axes, volume: np.ndarray, plane: str, position: float, limits: tuple[float, float]) -> None:
    """One slice of a RAS volume, nose up or to the right, the side of the body marked."""
    axis = PLANES[plane]
    index = round(position * (volume.shape[axis] - 1))
    axes.imshow(np.take(volume, index, axis=axis).T, cmap="gray", origin="lower", vmin=limits[0], vmax=limits[1])
    axes.set(xticks=[], yticks=[])
    left, right = ("P", "A") if plane == "sagittal" else ("L", "R")
    for x, side in ((0.04, left), (0.96, right)):
        axes.text(x, 0.04, side, color="white", fontsize=7, ha="center", transform=axes.transAxes)
    axes.set_ylabel(plane if axes.get_subplotspec().is_first_col() else "", fontsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def intensity_profiles(values: Mapping[str, Sequence[np.ndarray]], xlabel: str, title: str = "") -> Figure:
    """The distribution of brain voxels: one thin line per scan, coloured by site."""
    figure, axes = plt.subplots(figsize=(6.2, 3.0))
    palette = site_palette(list(values))
    top = max(float(np.percentile(scan, 99.9)) for scans in values.values() for scan in scans)
    bins = np.linspace(0, top, 100)
    middle = (bins[1:] + bins[:-1]) / 2
    for site, scans in values.items():
        for number, scan in enumerate(scans):
            density, _ = np.histogram(scan, bins=bins, density=True)
            label = f"{site} (n = {len(scans)})" if number == 0 else None
            axes.plot(middle, density, color=palette[site], lw=0.8, alpha=0.7, label=label)
    axes.set(xlabel=xlabel, ylabel="density", title=title)
    axes.legend(frameon=False)
    return figure


def people_by_site(table: pd.DataFrame, title: str = "") -> Figure:
    """Age, sex and diagnosis of the subjects of each site; one row of `table` per subject."""
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.8))
    palette = site_palette(sorted(table["site"].unique()))
    order = list(palette)
    sns.boxplot(table, x="site", y="age_years", hue="site", order=order, palette=palette, ax=axes[0], fliersize=2)
    axes[0].set(ylabel="age (years)", xlabel="")
    for ax, column in zip(axes[1:], ("sex", "diagnosis"), strict=True):
        shares = pd.crosstab(table["site"], table[column], normalize="index").reindex(order)
        shares.plot.bar(stacked=True, ax=ax, colormap="viridis", width=0.7, rot=0)
        ax.set(ylabel="share of subjects", xlabel="", ylim=(0, 1))
        ax.legend(title=column, fontsize=7, title_fontsize=7, bbox_to_anchor=(1, 1), loc="upper left", frameon=False)
    for ax in axes:
        ax.tick_params(axis="x", labelrotation=30 if len(order) <= 6 else 90)
    figure.suptitle(title)
    return figure


def similarity_matrix(values: np.ndarray, labels: Sequence[str], groups: Sequence[str], title: str = "") -> Figure:
    """A square matrix of distances between scans, with lines between groups of rows."""
    figure, axes = plt.subplots(figsize=(4.6, 4.0))
    image = axes.imshow(values, cmap="magma_r")
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    edges = [k for k in range(1, len(groups)) if groups[k] != groups[k - 1]]
    for edge in edges:
        axes.axhline(edge - 0.5, color="white", lw=0.8)
        axes.axvline(edge - 0.5, color="white", lw=0.8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="mean absolute difference")
    axes.set_title(title)
    return figure
