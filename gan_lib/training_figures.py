"""Figures of slices and losses while a model is trained: arrays in, figures out."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float32
from matplotlib.figure import Figure

from study_lib import curves

PANELS = {
    "discriminator": ("discriminator_real", "discriminator_fake"),
    "adversarial": ("adversarial_latent", "adversarial_reference"),
    "cycle": ("cycle_latent", "cycle_reference"),
    "style": ("style_latent", "style_reference"),
    "temporal": ("temporal_latent", "temporal_reference"),
    "validation error": ("validation_intensity", "validation_texture", "validation_cycle"),
}


def live_curves(records: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """The losses that the records have, by kind; an empty figure before there are any."""
    return curves.live_curves(records, PANELS, title)


def slice_rows(
    rows: Mapping[str, Float32[np.ndarray, "slice height width"]], columns: Sequence[str], title: str = ""
) -> Figure:
    """Axial slices as the networks see them: one row of images per entry, left of the picture = left of the head."""
    across = len(columns)
    figure, axes = plt.subplots(len(rows), across, figsize=(1.5 * across + 0.4, 1.8 * len(rows) + 0.4), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1, origin="lower")
            ax.set_xticks([], [])
            ax.set_yticks([], [])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name)
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name, fontsize=8)
    for x, side in ((0.03, "L"), (0.97, "R")):
        axes[0, 0].text(x, 0.5, side, color="w", transform=axes[0, 0].transAxes, ha="center", fontsize=7)
    figure.suptitle(title)
    return figure
