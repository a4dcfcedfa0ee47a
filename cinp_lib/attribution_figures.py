"""Figures of attribution: shares of regions, edges and clusters in, a figure or an interactive view out."""

import warnings
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from nibabel import Nifti1Image

from cinp_lib.connectivity import Atlas
from cinp_lib.importance import on_regions

AFFECTED_COLOUR, OTHER_COLOUR, RATE_COLOUR = "#D55E00", "#999999", "#0072B2"
Shares = Float[np.ndarray, " part"]


def top_regions(
    shares: Mapping[str, Shares], names: Sequence[str], affected: Bool[np.ndarray, " region"] | None, title: str = ""
) -> Figure:
    """The regions with the largest shares of each decision; those that truly carry the effect have their own colour."""
    figure, axes = plt.subplots(1, len(shares), figsize=(2.6 * len(shares), 4.2), squeeze=False)
    for ax, (name, own) in zip(axes[0], shares.items(), strict=True):
        top = np.argsort(-own, kind="stable")[:22]
        true = np.zeros(len(own), bool) if affected is None else affected
        ax.barh(-np.arange(len(top)), own[top], color=np.where(true[top], AFFECTED_COLOUR, OTHER_COLOUR))
        ax.set_yticks(-np.arange(len(top)), [names[k] for k in top], fontsize=6)
        ax.set(title=name, xlabel="share of the decision")
    if affected is not None:
        for colour, label in ((AFFECTED_COLOUR, "truly affected"), (OTHER_COLOUR, "not")):
            axes[0, -1].barh(0, 0, color=colour, label=label)
        axes[0, -1].legend(frameon=False, fontsize=7, loc="lower right")
    figure.suptitle(title)
    return figure


def hit_curves(
    shares: Mapping[str, Shares], affected: Mapping[str, Bool[np.ndarray, " part"]], title: str = "", xlabel: str = ""
) -> Figure:
    """Of the k parts with the largest shares, how many are truly affected; the band is where 95 % of guesses are."""
    figure, axes = plt.subplots(1, len(shares), figsize=(2.6 * len(shares) + 0.6, 2.8), sharey=True, squeeze=False)
    for ax, (name, own) in zip(axes[0], shares.items(), strict=True):
        truth, n = affected[name], len(own)
        k = np.unique(np.geomspace(1, n, 60).astype(int))
        ax.plot(k, np.cumsum(truth[np.argsort(-own, kind="stable")])[k - 1] / k, color=RATE_COLOUR, lw=1.2)
        low, high = scipy.stats.hypergeom.interval(0.95, n, truth.sum(), k)
        ax.fill_between(k, low / k, high / k, color=OTHER_COLOUR, alpha=0.3, lw=0, label="95 % of guesses")
        ax.axhline(truth.mean(), color="black", lw=0.8, ls=":", label="chance")
        ax.axvline(truth.sum(), color="black", lw=0.5)
        ax.set(title=name, xscale="log", xlabel=xlabel, ylim=(0, 1.02))
    axes[0, 0].set_ylabel("share that is truly affected")
    axes[0, -1].legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    return figure


def clusters(shares: Mapping[str, Shares], assignment: Float[np.ndarray, "region cluster"], title: str = "") -> Figure:
    """Shares of readout clusters above the regions that they gather, ordered by the first decision."""
    order = np.argsort(-next(iter(shares.values())))
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.6), height_ratios=[1, 2], sharex=True)
    for name, own in shares.items():
        axes[0].plot(own[order], marker="o", ms=2, lw=0.8, label=name)
    axes[0].axhline(0, color="black", lw=0.6)
    axes[0].set(ylabel="share of the\ndecision", title=title)
    axes[0].legend(frameon=False, fontsize=7)
    image = axes[1].imshow(assignment[:, order], aspect="auto", cmap="viridis", interpolation="nearest")
    axes[1].set(xlabel="readout cluster", ylabel="region")
    figure.colorbar(image, ax=axes[1], label="part of the region")
    return figure


def glass_brain(shares: Shares, atlas: Atlas, title: str = "") -> Figure:
    """Shares of regions seen through the head, from three sides."""
    from nilearn.plotting import plot_glass_brain

    figure = plt.figure(figsize=(7.0, 2.6), layout="none")  # nilearn places its axes itself
    marks = {"colorbar": True, "plot_abs": False, "cmap": "RdBu_r", "figure": figure}
    plot_glass_brain(_fine(on_regions(shares, atlas)), **marks)
    figure.suptitle(title, y=1.08)
    return figure


def brain_view(shares: Shares, atlas: Atlas, title: str = ""):
    """An interactive view of the shares of regions on the MNI152 template, one self-contained HTML page."""
    from nilearn.plotting import view_img

    image = _fine(on_regions(shares, atlas))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*MaskedArray")  # of nilearn's own percentiles
        return view_img(image, title=title, symmetric_cmap=True, resampling_interpolation="nearest")


def connectome_view(shares: Shares, atlas: Atlas, strongest: int = 100, title: str = ""):
    """An interactive view of the edges with the largest shares, or None where no edge has any."""
    from nilearn.plotting import view_connectome

    matrix = edge_matrix(shares, len(atlas.names), strongest)
    if not matrix.any():
        return None
    return view_connectome(matrix, atlas.centres_mm(), node_size=3, title=title)


def edge_matrix(shares: Shares, regions: int, strongest: int | None = None) -> Float[np.ndarray, "region region"]:
    """Edges in the order of the upper triangle as a symmetric matrix; with `strongest`, only the largest shares."""
    kept = shares
    if strongest is not None:
        kept = np.zeros_like(shares)
        top = np.argsort(-shares, kind="stable")[:strongest]
        kept[top] = np.maximum(shares[top], 0)
    matrix = np.zeros((regions, regions))
    matrix[np.triu_indices(regions, 1)] = kept
    return matrix + matrix.T


def _fine(image: Nifti1Image) -> Nifti1Image:
    """Without the shares' smallness: a viewer's default threshold and its digits are made for larger numbers."""
    return Nifti1Image(100 * np.asarray(image.dataobj), image.affine)
