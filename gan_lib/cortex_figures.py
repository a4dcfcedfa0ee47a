"""Figures of the cortical radius: slices with its map, the cortex in 3D, agreement, and what biology is left."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy import ndimage
from skimage.measure import marching_cubes

from gan_lib.cortex.agreement import paired
from gan_lib.figures import MAIN, NEUTRAL, method_looks
from study_lib.figures import PLANES, show_slice, site_palette
from study_lib.shapes import Volume

THICKNESS_MM = (1.0, 5.0)  # of the colours, in all figures
COLOURS = "viridis"
VIEWS = {"left": (0, 180), "above": (90, -90)}  # elevation and azimuth: left is on the left, seen from above


def radius_slices(
    scans: Mapping[str, tuple[Volume, Volume]],
    where: Sequence[tuple[str, float]] = (("axial", 0.6), ("coronal", 0.45)),
    title: str = "",
) -> Figure:
    """Columns are scans, given as image and map; under each image the same slice with the map over it."""
    top = max(float(np.percentile(image, 99.7)) for image, _ in scans.values())
    size = (2.0 * len(scans) + 0.8, 2.2 * 2 * len(where) + 0.4)
    figure, axes = plt.subplots(2 * len(where), len(scans), figsize=size, squeeze=False)
    for column, (name, (image, thickness)) in enumerate(scans.items()):
        axes[0, column].set_title(name)
        for row, (plane, position) in enumerate(where):
            for k in range(2):
                show_slice(axes[2 * row + k, column], image, plane, position, (0, top))
            _overlay(axes[2 * row + 1, column], thickness, plane, position)
    _colour_bar(figure, axes)
    figure.suptitle(title)
    return figure


def cortex_in_3d(scans: Mapping[str, tuple[np.ndarray, Volume]], spacing_mm: float = 2.0, title: str = "") -> Figure:
    """The outer surface of the cortex of every scan, given as labels and map, coloured by the map; two views."""
    size = (2.6 * len(scans) + 0.8, 2.6 * len(VIEWS) + 0.4)
    figure = plt.figure(figsize=size)
    axes = figure.subplots(len(VIEWS), len(scans), squeeze=False, subplot_kw={"projection": "3d"})
    for column, (name, (labels, thickness)) in enumerate(scans.items()):
        axes[0, column].set_title(name)
        vertices, faces, normals, colours = _outer_surface(labels, thickness)
        for row, (view, (elevation, azimuth)) in enumerate(VIEWS.items()):
            ax = axes[row, column]
            front = normals @ _direction(elevation, azimuth) > 0  # half of the work: nobody sees the others
            light = LightSource(azdeg=azimuth + 60, altdeg=40)
            shade = np.clip(0.55 + 0.45 * normals[front] @ light.direction, 0, 1)
            shaded = np.column_stack([colours[front, :3] * shade[:, None], np.ones(front.sum())])
            seen = Poly3DCollection(vertices[faces[front]] * spacing_mm, facecolors=shaded, linewidths=0)
            seen.set_rasterized(True)  # as vectors they would fill tens of megabytes
            ax.add_collection3d(seen)
            _look(ax, labels.shape, spacing_mm, elevation, azimuth)
            ax.text2D(0.02, 0.95, f"from the {view}" if view == "left" else f"from {view}", transform=ax.transAxes)
    _colour_bar(figure, axes)
    figure.suptitle(title)
    return figure


def radius_errors(table: pd.DataFrame, main: str, title: str = "") -> Figure:
    """`agreement.error_table` drawn: one line per method, best on top."""
    looks = method_looks([name for name in table["method"] if name != "target"], main)
    looks["target"] = {"color": NEUTRAL, "marker": "|"}
    figure, ax = plt.subplots(figsize=(5.6, 0.35 * len(table) + 1.2))
    for row, own in enumerate(table[::-1].itertuples()):
        ends = np.nan_to_num(np.abs(np.array([[own.low], [own.high]]) - own.error_percent))
        ax.errorbar(own.error_percent, row, xerr=ends, ls="none", ms=6, **looks[own.method])
    names = [{"target": "real scan at the target"}.get(n, n.replace("_", " ")) for n in table["method"][::-1]]
    ax.set_yticks(range(len(table)), names)
    ax.set(xlabel="mean absolute error of the radius (% of the truth), lower is better", xlim=(0, None), title=title)
    return figure


def agreement(radii: pd.DataFrame, main: str, title: str = "") -> Figure:
    """Source against transferred radius; and transferred minus truth (else source) over their mean."""
    own = paired(radii, main)
    against = "truth_mm" if "truth_mm" in own else "source_mm"
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.5))
    palette = site_palette(sorted(own["target"].unique()))
    for site, here in own.groupby("target"):
        style = {"ls": "none", "marker": "o", "ms": 3.5, "alpha": 0.7, "color": palette[site], "label": f"to {site}"}
        axes[0].plot(here["source_mm"], here["transferred_mm"], **style)
        middle = (here["transferred_mm"] + here[against]) / 2
        axes[1].plot(middle, here["transferred_mm"] - here[against], **style)
    ends = [
        own[["source_mm", "transferred_mm"]].to_numpy().min(),
        own[["source_mm", "transferred_mm"]].to_numpy().max(),
    ]
    axes[0].plot(ends, ends, color=MAIN, lw=0.8)
    axes[0].set(xlabel="radius of the source (mm)", ylabel="radius after transfer (mm)")
    difference = own["transferred_mm"] - own[against]
    for level, style in ((0, "-"), (-1.96, "--"), (1.96, "--")):
        axes[1].axhline(difference.mean() + level * difference.std(), color=MAIN, ls=style, lw=0.8)
    name = against.removesuffix("_mm")
    axes[1].set(xlabel=f"mean of transferred and {name} (mm)", ylabel=f"transferred - {name} (mm)")
    axes[0].legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    return figure


def effects_before_after(effects: Mapping[str, pd.DataFrame], affected: Sequence[bool], title: str = "") -> Figure:
    """Cohen's d of every region before and after each method; regions that the phantom's disease thins are filled."""
    affected = np.asarray(affected, dtype=bool)
    figure, axes = plt.subplots(1, len(effects), figsize=(3.4 * len(effects), 3.4), squeeze=False)
    limit = 1.05 * max(table[["before", "after"]].abs().to_numpy().max() for table in effects.values())
    for ax, (name, table) in zip(axes[0], effects.items(), strict=True):
        for filled, label in ((affected, "affected"), (~affected, "others")):
            face = MAIN if label == "affected" else "none"
            own = table[filled]
            ax.plot(own["before"], own["after"], "o", ms=4, color=MAIN, mfc=face, label=label, alpha=0.7)
        ax.plot([-limit, limit], [-limit, limit], color=NEUTRAL, lw=0.8)
        ax.set(xlabel="d before", ylabel="d after", title=name, xlim=(-limit, limit), ylim=(-limit, limit))
    axes[0, 0].legend(frameon=False)
    figure.suptitle(title)
    return figure


def painted(table: pd.DataFrame, title: str = "") -> Figure:
    """`value`, `low`, `high` per `method`: the share of the disease that controls have got; 0 is none."""
    figure, ax = plt.subplots(figsize=(5.6, 0.4 * len(table) + 1.2))
    rows = np.arange(len(table))[::-1]
    ends = np.abs(table[["low", "high"]].to_numpy().T - table["value"].to_numpy())
    ax.errorbar(table["value"], rows, xerr=ends, fmt="o", color=MAIN)
    ax.axvline(0, color=NEUTRAL, lw=0.8)
    ax.set_yticks(rows, table["method"])
    ax.set(xlabel="share of the disease painted onto controls (0: none)", title=title)
    return figure


def _overlay(ax: Axes, thickness: Volume, plane: str, position: float) -> None:
    axis = PLANES[plane]
    shown = np.take(thickness, round(position * (thickness.shape[axis] - 1)), axis=axis).T
    norm = Normalize(*THICKNESS_MM)
    ax.imshow(np.ma.masked_equal(shown, 0), cmap=COLOURS, norm=norm, origin="lower", interpolation="nearest")


def _colour_bar(figure: Figure, axes: np.ndarray) -> None:
    scale = ScalarMappable(Normalize(*THICKNESS_MM), COLOURS)
    figure.colorbar(scale, ax=axes, shrink=0.5, label="thickness along streamlines (mm)", extend="both")


def _outer_surface(labels: np.ndarray, thickness: Volume) -> tuple[np.ndarray, ...]:
    """Vertices, faces, normals and colours of the border of grey matter to fluid; grey where the map has nothing."""
    tissue = ndimage.gaussian_filter((labels > 0).astype(np.float32), 0.7)
    vertices, faces, _, _ = marching_cubes(tissue, 0.5)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= -np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)  # outwards
    known = thickness > 0
    near, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    node = tuple(np.rint(corners.mean(axis=1)).astype(int).T)
    value = thickness[tuple(nearest)][node]
    colours = plt.get_cmap(COLOURS)(Normalize(*THICKNESS_MM)(value))
    colours[near[node] > 2] = (0.75, 0.75, 0.75, 1)
    return vertices, faces, normals, colours


def _direction(elevation: float, azimuth: float) -> np.ndarray:
    """From the head to who looks at it from there."""
    up, around = np.deg2rad([elevation, azimuth])
    return np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])


def _look(ax: Axes, shape: tuple[int, ...], spacing_mm: float, elevation: float, azimuth: float) -> None:
    span = np.array(shape) * spacing_mm
    ax.set(xlim=(0, span[0]), ylim=(0, span[1]), zlim=(0, span[2]))
    ax.set_box_aspect(span, zoom=1.5)
    ax.view_init(elevation, azimuth)
    ax.set_axis_off()
