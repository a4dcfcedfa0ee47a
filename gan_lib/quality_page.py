"""A page to look at before a harmonised volume is used: pictures, histogram and numbers in one HTML file.

It asks for nothing from outside, and is readable in the dark, on paper, and aloud.
"""

import base64
import io
from collections.abc import Mapping
from html import escape

import matplotlib
import nibabel
import numpy as np
from matplotlib.figure import Figure
from nibabel.nifti1 import Nifti1Image

from gan_lib.harmonize import Harmonised
from gan_lib.model_card import NOT_FOR_DIAGNOSIS
from study_lib.exhibits import NO_METADATA
from study_lib.figures import PLANES, STYLE, show_slice
from study_lib.grid import Grid
from study_lib.shapes import Mask, Volume
from study_lib.volume import resample
from study_lib.workflow import report_page

BEFORE_COLOUR, AFTER_COLOUR = "#0072B2", "#D55E00"  # Okabe and Ito 2008
SHOWN_MM = (1.0, 2.0)  # pictures are drawn with the voxel size of the scan, within these limits
PICTURE_DPI = 75


def quality_numbers(result: Harmonised) -> dict[str, float]:
    """What the page says in numbers; all of the voxels of the brain, in units of [0, 1]."""
    before, after = result.before[result.mask], result.after[result.mask]
    change = (after - before).astype(np.float64)
    return {
        "voxels in the brain": int(result.mask.sum()),
        "mean before": float(before.mean(dtype=np.float64)),
        "mean after": float(after.mean(dtype=np.float64)),
        "mean change": float(change.mean()),
        "mean absolute change": float(np.abs(change).mean()),
        "largest absolute change": float(np.abs(change).max()),
        "share of voxels at 0 after": float((after <= 0).mean()),
        "share of voxels at 1 after": float((after >= 1).mean()),
        "correlation of before and after": _correlation(before, after),
    }


def quality_page(result: Harmonised, facts: Mapping[str, str]) -> str:
    """The page as HTML; `facts` says what was done: input, target, model, version."""
    title = f"Harmonised: {facts.get('input', 'one volume')}"
    notes = "".join(f"<p><strong>Note:</strong> {escape(note)}.</p>\n" for note in result.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{report_page.STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(NOT_FOR_DIAGNOSIS)}</p>
</header>
<main>
{_pairs(facts)}
{notes}{_figure("Slices", _png(slices_figure(result)), SLICES_SAID)}
{_figure("Intensities", _png(histogram_figure(result)), HISTOGRAM_SAID)}
<h2>Numbers</h2>
{_table(quality_numbers(result))}
</main>
</body>
</html>
"""


SLICES_SAID = (
    "Three slices through the middle of the brain: before and after harmonisation on one grey scale from 0 to 1, and "
    "after minus before, blue where it became darker and red where it became brighter. L and R are the left and the "
    "right of the body, P and A back and front. Look for edges in the change that follow no anatomy, for stripes from "
    "slice to slice, and for structure that was not there before."
)
HISTOGRAM_SAID = (
    "The share of brain voxels at every intensity, before and after. Steps at the very ends are voxels that were cut "
    "off at the limits."
)


def slices_figure(result: Harmonised) -> Figure:
    """Before, after and the difference in three planes, upright whatever the orientation of the scan."""
    before, after = (_upright(result, volume) for volume in (result.before, result.after))
    change = after - before
    limit = max(0.05, float(np.percentile(np.abs(change), 99.5)))
    columns = {"before": (before, (0, 1), "gray"), "after": (after, (0, 1), "gray")}
    columns["after - before"] = (change, (-limit, limit), "RdBu_r")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 7.0))
        axes = figure.subplots(len(PLANES), len(columns), squeeze=False)
        for column, (name, (volume, limits, colours)) in enumerate(columns.items()):
            axes[0, column].set_title(name)
            for row, plane in enumerate(PLANES):
                show_slice(axes[row, column], volume, plane, 0.5, limits)
                axes[row, column].images[0].set_cmap(colours)
        for text in (text for panel in axes[:, 2] for text in panel.texts):
            text.set_color("black")
        bars = {"before and after (normalised units)": axes[:, :2], "change": axes[:, 2]}
        for label, panels in bars.items():
            figure.colorbar(panels.flat[0].images[0], ax=panels, location="bottom", fraction=0.05, label=label)
    return figure


def histogram_figure(result: Harmonised) -> Figure:
    """The distribution of brain voxels before and after."""
    bins = np.linspace(0, 1, 101)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 2.8))
        axes = figure.subplots()
        for name, volume, colour in (("before", result.before, BEFORE_COLOUR), ("after", result.after, AFTER_COLOUR)):
            share = np.histogram(volume[result.mask], bins=bins)[0] / result.mask.sum()
            axes.stairs(100 * share, bins, color=colour, label=name, lw=1.4)
        axes.set(xlabel="intensity (normalised units)", ylabel="% of brain voxels", xlim=(0, 1))
        axes.legend(frameon=False)
    return figure


def _upright(result: Harmonised, volume: Volume) -> Volume:
    """A volume of the scan on an isotropic RAS grid around the brain."""
    mask = Nifti1Image(_as_numbers(result.mask), result.image.affine)
    spacing = float(np.clip(min(nibabel.affines.voxel_sizes(result.image.affine)), *SHOWN_MM))
    grid = Grid.covering(mask, spacing, margin_mm=6.0)
    return np.asarray(resample(Nifti1Image(volume, result.image.affine), grid).dataobj)


def _as_numbers(mask: Mask) -> np.ndarray:
    return mask.astype(np.uint8)


def _correlation(before: np.ndarray, after: np.ndarray) -> float:
    flat = min(before.std(), after.std()) == 0
    return 0.0 if flat else float(np.corrcoef(before, after)[0, 1])


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PICTURE_DPI, bbox_inches="tight", metadata=NO_METADATA[".png"])
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _figure(title: str, picture: str, said: str) -> str:
    return (
        f'<figure>\n<h2>{escape(title)}</h2>\n<img src="{picture}" alt="{escape(said)}">\n'
        f"<figcaption>{escape(said)}</figcaption>\n</figure>"
    )


def _pairs(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items())
    return f"<dl>\n{rows}</dl>"


def _table(numbers: Mapping[str, float]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{value:.4g}</td></tr>\n'
        if isinstance(value, float)
        else f'<tr><th scope="row">{escape(name)}</th><td class="number">{value}</td></tr>\n'
        for name, value in numbers.items()
    )
    return f"<table><tbody>\n{rows}</tbody></table>"
