"""Figures of harmonisation: arrays and tables in, a figure out. Volumes are RAS; one grey scale per figure."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gan_lib.coherence import BORDER_VOXELS, slice_means
from gan_lib.similarity import METRICS, Metric
from study_lib.figures import OTHER_COLOURS, show_slice
from study_lib.shapes import Mask, Volume

AXIAL = ("axial", 0.55)
# Sites have colours of their own; methods have other ones, and markers.
NEUTRAL, MAIN = "#999999", "#000000"
BASELINE_COLOURS = (OTHER_COLOURS[1], OTHER_COLOURS[0], "#806000")
MARKERS = "^sDvPX*<>"


def translation_matrix(
    sources: Mapping[str, Volume],
    translated: Mapping[tuple[str, str], Volume],
    references: Mapping[str, Volume] | None = None,
    where: tuple[str, float] = AXIAL,
    title: str = "",
) -> Figure:
    """Source sites down, target sites across; the first column is the source itself, the first row the references."""
    asked = dict.fromkeys(target for _, target in translated)
    targets = sorted(asked, key=list(dict.fromkeys([*sources, *asked])).index)  # one order down and across
    limits = _limits([*sources.values(), *translated.values(), *(references or {}).values()])
    top = ["reference"] if references else []
    figure, axes = _grid(len(top) + len(sources), 1 + len(targets), title)
    for row, source in enumerate([*top, *sources]):
        shown = [(references or {}).get(target) for target in targets] if row < len(top) else None
        own = [None, *shown] if shown else [sources[source], *(translated.get((source, t)) for t in targets)]
        for column, volume in enumerate(own):
            _panel(axes[row, column], volume, where, limits)
        axes[row, 0].set_ylabel("real scans" if shown else f"from {source}", fontsize=9)
    for column, name in enumerate(["source", *(f"to {target}" for target in targets)]):
        axes[0, column].set_title(name)
    return figure


def cycle_transfer(
    cycles: Mapping[str, tuple[Volume, Volume, Volume]], where: tuple[str, float] = AXIAL, title: str = ""
) -> Figure:
    """One row per transfer: the source, its translation, the way back, and the way back minus the source."""
    limits = _limits([volume for volumes in cycles.values() for volume in volumes])
    differences = {name: back - source for name, (source, _, back) in cycles.items()}
    largest = max(float(np.percentile(np.abs(d[d != 0]), 99)) if d.any() else 0.0 for d in differences.values())
    figure, axes = _grid(len(cycles), 4, title)
    for row, (name, volumes) in enumerate(cycles.items()):
        for column, volume in enumerate(volumes):
            show_slice(axes[row, column], volume, *where, limits)
        show_slice(axes[row, 3], differences[name], *where, (-largest, largest))
        axes[row, 3].images[0].set_cmap("RdBu_r")
        plt.setp(axes[row, 3].texts, color=MAIN)  # the background is white here
        axes[row, 0].set_ylabel(name, fontsize=9)
    for ax, name in zip(axes[0], ("source", "there", "and back", "back - source"), strict=True):
        ax.set_title(name)
    figure.colorbar(axes[-1, 3].images[0], ax=axes[:, 3], shrink=0.6)
    return figure


def reformats(
    volumes: Mapping[str, tuple[Volume, Mask]],
    positions: tuple[float, float] = (0.45, 0.42),
    border_voxels: int = BORDER_VOXELS,
    title: str = "",
) -> Figure:
    """Coronal and sagittal slices through stacks of axial ones, and below how the slice means jump."""
    limits = _limits([volume for volume, _ in volumes.values()])
    figure = plt.figure(figsize=(2.0 * len(volumes) + 0.4, 5.6))
    grid = figure.add_gridspec(3, len(volumes), height_ratios=(1, 1, 0.8))
    jumps = {name: np.diff(slice_means(*pair, border_voxels), 2) for name, pair in volumes.items()}
    largest = 1.05 * max(float(np.abs(jump).max()) for jump in jumps.values())
    for column, (name, (volume, _)) in enumerate(volumes.items()):
        for row, plane in enumerate(("coronal", "sagittal")):
            ax = figure.add_subplot(grid[row, column])
            show_slice(ax, volume, plane, positions[row], limits)
            ax.set_title(name if row == 0 else "")
        ax = figure.add_subplot(grid[2, column])
        ax.plot(jumps[name], color=MAIN, lw=0.8)
        ax.set(ylim=(-largest, largest), xlabel="slice", ylabel="" if column else "second difference\nof slice means")
        ax.tick_params(labelleft=not column)
    figure.suptitle(title)
    return figure


def institution_similarity(
    table: pd.DataFrame, main: str, by: str = "target", metrics: Mapping[str, Metric] = METRICS, title: str = ""
) -> Figure:
    """`travelling_scores.institution_table` drawn: methods beside each other at every site, the rescan as a line."""
    sites = sorted(table[by].unique())
    methods = [name for name in table["method"].unique() if name != "rescan"]
    looks = method_looks(methods, main)
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.4 * len(metrics), 3.6), squeeze=False)
    for ax, (name, metric) in zip(axes[0], metrics.items(), strict=True):
        rows = table[table["metric"] == name]
        for k, method in enumerate(methods):
            own = rows[rows["method"] == method].set_index(by).reindex(sites)
            at = np.arange(len(sites)) + (k - (len(methods) - 1) / 2) * 0.7 / len(methods)
            ends = np.abs(own[["low", "high"]].to_numpy().T - own["value"].to_numpy())
            ax.errorbar(at, own["value"], np.nan_to_num(ends), ls="none", ms=4, lw=0.9, label=method, **looks[method])
        rescan = rows[rows["method"] == "rescan"].set_index(by)["value"].reindex(sites)
        ax.hlines(rescan, np.arange(len(sites)) - 0.4, np.arange(len(sites)) + 0.4, color=MAIN, ls="--", lw=0.9)
        ax.set_xticks(range(len(sites)), sites)
        ax.set(title=metric.axis_label, xlabel=f"{by} site", xlim=(-0.5, len(sites) - 0.5))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles.append(plt.Line2D([], [], color=MAIN, ls="--", lw=0.9))
    labels = [*(name.replace("_", " ") for name in labels), "rescan"]
    figure.legend(handles, labels, frameon=False, ncols=4, loc="outside lower center")
    figure.suptitle(title)
    return figure


def pair_matrices(matrices: Mapping[str, pd.DataFrame], label: str, title: str = "") -> Figure:
    """`travelling_scores.pair_matrix` of several methods on one scale: source sites down, target sites across."""
    values = np.concatenate([matrix.to_numpy().ravel() for matrix in matrices.values()])
    limits = {"vmin": np.nanmin(values), "vmax": np.nanmax(values)}
    figure, axes = plt.subplots(1, len(matrices), figsize=(2.6 * len(matrices) + 0.8, 2.9), squeeze=False)
    for ax, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        image = ax.imshow(matrix, cmap="viridis", **limits)
        for (row, column), value in np.ndenumerate(matrix.to_numpy()):
            if np.isfinite(value):
                dark = value < np.mean(list(limits.values()))
                ax.text(column, row, f"{value:#.3g}", ha="center", va="center", color="w" if dark else "k", fontsize=7)
        ax.set_xticks(range(matrix.shape[1]), matrix.columns)
        ax.set_yticks(range(matrix.shape[0]), matrix.index)
        ax.set(title=name, xlabel="target", ylabel="" if ax is not axes[0, 0] else "source")
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    figure.suptitle(title)
    return figure


def coherence_bars(
    table: pd.DataFrame, columns: Sequence[str] = ("slice_jitter", "sharpness"), target: str = "target", title: str = ""
) -> Figure:
    """`coherence.coherence_table` drawn: bars are means, dots volumes, the line the target's own, the band 10 %."""
    groups = list(table["group"].unique())
    figure, axes = plt.subplots(1, len(columns), figsize=(3.4 * len(columns), 3.0), squeeze=False)
    for ax, column in zip(axes[0], columns, strict=True):
        for at, group in enumerate(groups):
            values = table.loc[table["group"] == group, column].to_numpy()
            ax.bar(at, values.mean(), color=NEUTRAL, width=0.6, alpha=0.6)
            ax.plot(at + np.linspace(-0.2, 0.2, len(values)), values, ".", color=MAIN, ms=3)
        aim = table.loc[table["group"] == target, column].mean()
        ax.axhline(aim, color=MAIN, ls="--", lw=0.9)
        ax.axhspan(0.9 * aim, 1.1 * aim, color=MAIN, alpha=0.1, lw=0)
        ax.set_xticks(range(len(groups)), [g.replace("_", " ") for g in groups], rotation=20, ha="right")
        ax.set_title(column.replace("_", " "))
    figure.suptitle(title)
    return figure


def method_looks(methods: Sequence[str], main: str) -> dict[str, dict]:
    """Colour and marker of each method: grey for doing nothing, black for the main one, others for baselines."""
    others = [name for name in methods if name not in (main, "before")]
    looks = {
        name: {"color": BASELINE_COLOURS[k % len(BASELINE_COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        for k, name in enumerate(others)
    }
    return looks | {"before": {"color": NEUTRAL, "marker": "x"}, main: {"color": MAIN, "marker": "o"}}


def _grid(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    size = (1.7 * columns + 0.5, 2.0 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    figure.suptitle(title)
    return figure, axes


def _panel(ax: Axes, volume: Volume | None, where: tuple[str, float], limits: tuple[float, float]) -> None:
    """A slice, or nothing where there is none; an empty panel keeps its label."""
    if volume is not None:
        show_slice(ax, volume, *where, limits)
        return
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _limits(volumes: Sequence[Volume]) -> tuple[float, float]:
    return 0.0, max(float(np.percentile(volume, 99.7)) for volume in volumes)
