"""Turn through volumes by hand, in a live JupyterLab; in a headless run nothing is shown."""

import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from study_lib.figures import PLANES

if TYPE_CHECKING:
    from ipywidgets import Widget

BATCH = "STUDY_BATCH"  # set where notebooks run headless


def is_live() -> bool:
    """Whether somebody sits before the notebook: Jupyter's server names the notebook, our headless runs say so."""
    return "JPY_SESSION_NAME" in os.environ and BATCH not in os.environ


def show_volumes(volumes: Mapping[str, Float[np.ndarray, "x y z"]]) -> None:
    """Show RAS volumes of one grid side by side with a slider, where somebody can move it."""
    if is_live():
        from IPython.display import display

        display(slice_viewer(volumes))


def slice_viewer(volumes: Mapping[str, Float[np.ndarray, "x y z"]]) -> "Widget":
    """The widget: one picture per volume on one grey scale, a plane, a place along it."""
    from ipywidgets import HTML, Dropdown, HBox, Image, IntSlider, Layout, VBox

    shapes = {volume.shape for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"slice viewer: expected volumes of one grid; got shapes {sorted(shapes)}")
    limits = (0.0, max(float(np.percentile(volume, 99.5)) for volume in volumes.values()))
    pictures = {name: Image(format="png", layout=Layout(width="14rem")) for name in volumes}
    plane = Dropdown(options=list(PLANES)[::-1], description="plane")
    place = IntSlider(min=0, max=1, description="slice", continuous_update=True)

    def drawn(_: object = None) -> None:
        for name, picture in pictures.items():
            picture.value = slice_png(volumes[name], plane.value, place.value, limits)

    def turned(_: object = None) -> None:
        size = next(iter(shapes))[PLANES[plane.value]]
        place.max = size - 1
        place.value = size // 2
        drawn()

    plane.observe(turned, "value")
    place.observe(drawn, "value")
    turned()
    columns = [VBox([HTML(f"<b>{name}</b>"), picture]) for name, picture in pictures.items()]
    return VBox([HBox([plane, place]), HBox(columns, layout=Layout(flex_flow="row wrap"))])


def slice_png(volume: Float[np.ndarray, "x y z"], plane: str, place: int, limits: tuple[float, float]) -> bytes:
    """One slice as PNG, nose up or to the right, left of the body on the left."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    image = np.take(volume, place, axis=PLANES[plane]).T
    imsave(file, image, cmap="gray", vmin=limits[0], vmax=limits[1], origin="lower", format="png")
    return file.getvalue()
