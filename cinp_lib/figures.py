"""Figures of networks: arrays in, a figure out; correlations always from blue (-1) over white to red (+1)."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

EDGE_COLOURS = "RdBu_r"
REMOVED_COLOUR, KEPT_COLOUR, BEFORE_COLOUR, AFTER_COLOUR = "#D55E00", "#0072B2", "#999999", "#009E73"


def matrices(networks: Mapping[str, np.ndarray], limit: float = 1.0, title: str = "", label: str = "r") -> Figure:
    """Networks side by side on one colour scale."""
    figure, axes = plt.subplots(1, len(networks), figsize=(3.1 * len(networks) + 0.6, 3.3), squeeze=False)
    for ax, (name, network) in zip(axes[0], networks.items(), strict=True):
        image = ax.imshow(network, cmap=EDGE_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set(title=name, xlabel="region", xticks=[0, len(network) - 1], yticks=[0, len(network) - 1])
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    figure.suptitle(title)
    return figure


def carpet(series: Mapping[str, np.ndarray], displacement_mm: np.ndarray, limit_mm: float, title: str = "") -> Figure:
    """Framewise displacement above the standardised series of all regions, one panel per stage of cleaning."""
    heights = [1, *[2.2] * len(series)]
    figure, axes = plt.subplots(len(heights), 1, figsize=(7.2, 1.4 * sum(heights)), sharex=True, height_ratios=heights)
    axes[0].plot(displacement_mm, color=REMOVED_COLOUR, lw=0.9)
    axes[0].axhline(limit_mm, color="black", lw=0.6, ls="--", label=f"limit {limit_mm} mm")
    axes[0].set(ylabel="FD (mm)", title=title)
    axes[0].legend(frameon=False, fontsize=7, loc="upper right")
    for ax, (name, values) in zip(axes[1:], series.items(), strict=True):
        spread = np.nanstd(values, axis=0)  # dropped volumes are NaN, and stay blank
        standard = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1)
        ax.imshow(standard.T, cmap="gray", aspect="auto", vmin=-2, vmax=2, interpolation="nearest")
        ax.set(ylabel=f"{name}\nregion")
    axes[-1].set(xlabel="volume")
    return figure


def edge_motion_by_distance(distance_mm: np.ndarray, correlations: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """How strongly each edge follows the subjects' motion, against the length of the edge."""
    figure, axes = plt.subplots(
        1, len(correlations), figsize=(3.4 * len(correlations), 3.0), sharey=True, squeeze=False
    )
    bins = np.linspace(distance_mm.min(), distance_mm.max(), 12)
    middle = (bins[1:] + bins[:-1]) / 2
    for ax, (name, values) in zip(axes[0], correlations.items(), strict=True):
        ax.scatter(distance_mm, values, s=1, alpha=0.15, color=BEFORE_COLOUR, rasterized=True)
        owner = np.clip(np.digitize(distance_mm, bins) - 1, 0, len(middle) - 1)
        means = [values[owner == k].mean() if (owner == k).any() else np.nan for k in range(len(middle))]
        ax.plot(middle, means, color=KEPT_COLOUR, marker="o", ms=3, label="mean of edges of that length")
        ax.axhline(0, color="black", lw=0.6)
        ax.set(title=f"{name}: mean |r| {np.abs(values).mean():.2f}", xlabel="distance of the regions (mm)")
    axes[0, 0].set_ylabel("r of edge with mean FD\n(over subjects)")
    axes[0, -1].legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    return figure


def recovery(estimates: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """One dot per subject: how well the estimated edges follow the true ones once the group mean is taken out."""
    figure, ax = plt.subplots(figsize=(1.5 * len(estimates) + 1.6, 3.0))
    for position, values in enumerate(estimates.values()):
        spread = np.random.default_rng(0).uniform(-0.12, 0.12, len(values))
        ax.scatter(position + spread, values, s=10, color=AFTER_COLOUR if position else BEFORE_COLOUR)
        ax.hlines(values.mean(), position - 0.25, position + 0.25, color="black", lw=1.5)
        ax.text(position + 0.28, values.mean(), f"{values.mean():.2f}", va="center", fontsize=8)
    ax.set_xticks(range(len(estimates)), [f"{name}\n(n = {len(v)} subjects)" for name, v in estimates.items()])
    ax.set(ylabel="r with the true edges\n(group mean taken out)", title=title, xlim=(-0.5, len(estimates) - 0.2))
    return figure


def likeness(values: np.ndarray, groups: Sequence[str], title: str = "", xlabel: str = "", ylabel: str = "") -> Figure:
    """Which estimate resembles whose truth: the diagonal is each subject's own."""
    figure, ax = plt.subplots(figsize=(4.4, 3.9))
    image = ax.imshow(values, cmap="viridis", interpolation="nearest")
    for k in (k for k in range(1, len(groups)) if groups[k] != groups[k - 1]):
        ax.axhline(k - 0.5, color="white", lw=0.6)
        ax.axvline(k - 0.5, color="white", lw=0.6)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(image, ax=ax, shrink=0.85, label="r of edges")
    return figure
