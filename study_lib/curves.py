"""Curves of a training: losses and validation, as a notebook shows them while they grow."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure


def live_curves(records: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]], title: str = "") -> Figure:
    """Those of the panels' columns that the records have; an empty figure before there are any."""
    table = pd.DataFrame(list(records))
    found = {name: [column for column in columns if column in table] for name, columns in panels.items()}
    found = {name: columns for name, columns in found.items() if columns}
    if found:
        figure = training_curves(table, found, title=title)
    else:
        figure, _ = plt.subplots(figsize=(4, 1.2))
    plt.close(figure)
    return figure


def training_curves(
    records: pd.DataFrame,
    panels: Mapping[str, Sequence[str]] | None = None,
    x: str = "iteration",
    smooth: int = 9,
    title: str = "",
) -> Figure:
    """One panel per name, one line per column: as recorded (thin), and where there are many the running median."""
    panels = panels or {name: [name] for name in records.columns if name != x}
    if missing := sorted({name for names in panels.values() for name in (x, *names)} - set(records.columns)):
        raise KeyError(f"training_curves: the records have no {', '.join(missing)}; they have {', '.join(records)}")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.1 * across, 2.1 * down), squeeze=False)
    for ax, (panel, names) in zip(axes.flat, panels.items(), strict=False):
        for name in names:
            # validation comes less often than a record
            own = records[[x, name]].dropna()
            if len(own) < 3 * smooth:
                ax.plot(own[x], own[name], marker="o", ms=3, lw=1.0, label=name)
                continue
            median = own[name].rolling(smooth, center=True, min_periods=1).median()
            (line,) = ax.plot(own[x], median, lw=1.2, label=name)
            ax.plot(own[x], own[name], lw=0.4, alpha=0.5, color=line.get_color())
        ax.set(title=panel, xlabel=x)
        if len(names) > 1:
            ax.legend(frameon=False, fontsize=7)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.suptitle(title)
    return figure
