"""Shared figures show what they are given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from study_lib import figures

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_site_has_a_colour_of_its_own_whatever_its_name():
    sites = ["SMC", "ADNI", "GSEV", "GMC", *(f"site {k}" for k in range(20))]
    colours = figures.site_palette(sites)
    assert colours["SMC"] == figures.SITE_COLOURS["SMC"]
    assert len(set(colours.values())) == len(sites)


def test_a_montage_shows_every_volume_in_every_plane_on_one_grey_scale():
    volumes = {name: np.random.default_rng(k).random((8, 9, 7)) for k, name in enumerate("abc")}
    figure = figures.montage(volumes, [("axial", 0.5), ("sagittal", 0.0)])
    images = [axes.images[0] for axes in figure.axes]
    assert len(images) == 6
    assert len({image.get_clim() for image in images}) == 1
    assert np.array_equal(images[0].get_array(), volumes["a"][:, :, 3].T)
    assert np.array_equal(images[3].get_array(), volumes["a"][0].T)


def test_slices_say_which_side_is_which():
    axes = plt.subplots()[1]
    figures.show_slice(axes, np.zeros((5, 5, 5)), "axial", 0.5, (0, 1))
    assert [text.get_text() for text in axes.texts] == ["L", "R"]


def test_one_bright_voxel_does_not_squeeze_the_intensity_curves():
    scans = np.random.default_rng(0).random(5000)
    figure = figures.intensity_profiles({"SMC": [np.append(scans, 1000.0)]}, "intensity")
    assert figure.axes[0].lines[0].get_xdata().max() < 2
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "SMC (n = 1)"


def test_people_by_site_gives_shares_that_sum_to_one():
    table = pd.DataFrame(
        {"site": list("AABB"), "age_years": [1.0, 2, 3, 4], "sex": list("FMFF"), "diagnosis": list("ppqp")}
    )
    figure = figures.people_by_site(table)
    heights = [patch.get_height() for patch in figure.axes[1].patches]
    assert sum(heights) == pytest.approx(2)


def test_a_similarity_matrix_separates_the_groups():
    figure = figures.similarity_matrix(np.eye(4), list("abcd"), ["x", "x", "y", "y"])
    assert [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_ydata()[0] == line.get_ydata()[-1]] == [
        1.5
    ]
