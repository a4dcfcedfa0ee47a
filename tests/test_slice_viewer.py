"""The slice viewer: the slices that it shows, and silence where nobody looks."""

import io

import matplotlib.image
import numpy as np
import pytest

from study_lib import slice_viewer
from study_lib.slice_viewer import BATCH, is_live, show_volumes, slice_png

VOLUME = np.random.default_rng(0).random((5, 7, 9))


def shown(png):
    """Grey values as they appear: rows from the top."""
    return matplotlib.image.imread(io.BytesIO(png))[..., 0]


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_a_picture_is_the_slice_with_its_first_axis_rightwards_and_its_second_upwards(plane, axis):
    place = VOLUME.shape[axis] - 2
    picture = shown(slice_png(VOLUME, plane, place, (0.0, 1.0)))
    width, height = (size for other, size in enumerate(VOLUME.shape) if other != axis)
    assert picture.shape == (height, width)
    for across in range(width):
        for up in range(height):
            index = [across, up]
            index.insert(axis, place)
            assert picture[height - 1 - up, across] == pytest.approx(VOLUME[tuple(index)], abs=2 / 255)


def controls(widget):
    plane, place = widget.children[0].children
    pictures = [column.children[1] for column in widget.children[1].children]
    return plane, place, pictures


def test_slider_and_plane_move_every_picture():
    plane, place, pictures = controls(slice_viewer.slice_viewer({"before": VOLUME, "after": 1 - VOLUME}))
    assert (place.value, place.max) == (4, 8)
    first = [picture.value for picture in pictures]
    place.value = 2
    second = [picture.value for picture in pictures]
    plane.value = "sagittal"
    third = [picture.value for picture in pictures]
    assert (place.value, place.max) == (2, 4)
    assert all(len({a, b, c}) == 3 for a, b, c in zip(first, second, third, strict=True))
    assert len(set(third)) == 2


def test_volumes_of_different_grids_are_refused():
    with pytest.raises(ValueError, match=r"expected volumes of one grid; got shapes \[\(5, 7, 8\), \(5, 7, 9\)\]"):
        slice_viewer.slice_viewer({"before": VOLUME, "after": VOLUME[:, :, 1:]})


def test_it_is_shown_to_somebody_who_sits_before_it_and_not_in_a_headless_run(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv(BATCH, raising=False)
    assert not is_live()
    show_volumes({"before": VOLUME})
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/01.ipynb")
    assert is_live()
    show_volumes({"before": VOLUME})
    assert "VBox" in capsys.readouterr().out
    monkeypatch.setenv(BATCH, "1")  # a headless run that a notebook started
    assert not is_live()
