"""Figures of harmonisation show what they are given, on one scale."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gan_lib import figures
from gan_lib.similarity import METRICS

matplotlib.use("Agg")
SITES = ("A", "B")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def volume(value=0.5, seed=0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 0.1, (12, 14, 13))
    return (value + noise).astype(np.float32)


def test_a_matrix_has_sources_down_targets_across_and_one_scale():
    sources = {site: volume(0.2 * k + 0.1) for k, site in enumerate(SITES)}
    translated = {("A", "B"): volume(0.9), ("B", "A"): volume(0.4)}
    figure = figures.translation_matrix(sources, translated, references={"B": volume(0.7)})
    axes = np.array(figure.axes).reshape(3, 3)
    assert [ax.get_title() for ax in axes[0]] == ["source", "to A", "to B"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["real scans", "from A", "from B"]
    shown = np.array([[len(ax.images) for ax in row] for row in axes])
    assert shown.tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert np.allclose(axes[1, 2].images[0].get_array(), volume(0.9)[:, :, round(0.55 * 12)].T)
    assert len({ax.images[0].get_clim() for ax in axes.flat if ax.images}) == 1


def test_a_cycle_shows_what_is_lost_on_the_way_around_zero():
    source, back = volume(0.5), volume(0.5, seed=1)
    figure = figures.cycle_transfer({"A to B": (source, volume(0.8), back)})
    image = figure.axes[3].images[0]
    assert np.allclose(image.get_array(), (back - source)[:, :, round(0.55 * 12)].T)
    low, high = image.get_clim()
    assert low == -high < 0
    nothing_lost = figures.cycle_transfer({"A to B": (source, volume(0.8), source)})
    assert not nothing_lost.axes[3].images[0].get_array().any()


def test_reformats_show_both_planes_and_the_jumps_of_every_stack():
    mask = np.ones((12, 14, 13), dtype=bool)
    jumping = volume()
    jumping[:, :, 6] += 0.3
    figure = figures.reformats({"calm": (volume(), mask), "jumping": (jumping, mask)}, border_voxels=0)
    lines = [ax.lines[0].get_ydata() for ax in figure.axes if ax.lines]
    assert np.abs(lines[1]).max() == pytest.approx(0.6, abs=0.02) and np.abs(lines[0]).max() < 0.02
    assert len({ax.get_ylim() for ax in figure.axes if ax.lines}) == 1
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 0, 1, 1, 0]


def institution_rows():
    rows = []
    for site in SITES:
        for metric in METRICS:
            for k, method in enumerate(("before", "gan", "nyul", "rescan")):
                value = 0.1 * k + (site == "B")
                ends = (value - 0.01, value + 0.02) if method != "rescan" else (np.nan, np.nan)
                rows.append((site, method, metric, value, *ends, 3))
    return pd.DataFrame(rows, columns=["target", "method", "metric", "value", "low", "high", "subjects"])


def test_similarity_per_institution_says_which_way_is_better():
    figure = figures.institution_similarity(institution_rows(), "gan")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["SSIM, higher is better", "PSNR (dB), higher is better", "mean absolute error, lower is better"]
    points = {bars.get_label(): bars.lines[0] for bars in figure.axes[0].containers}
    assert list(points) == ["before", "gan", "nyul"]
    assert points["gan"].get_ydata().tolist() == pytest.approx([0.1, 1.1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "gan", "nyul", "rescan"]


def test_matrices_of_errors_share_one_scale_and_write_every_number():
    first = pd.DataFrame([[np.nan, 0.1], [0.2, np.nan]], SITES, SITES)
    figure = figures.pair_matrices({"before": first, "after": first / 2}, "error")
    assert {ax.images[0].get_clim() for ax in figure.axes[:2]} == {(0.05, 0.2)}
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.0500", "0.100"]


def test_bars_of_coherence_have_the_targets_line_and_its_ten_per_cent():
    table = pd.DataFrame({"group": ["source", "target", "target"], "slice_jitter": [3.0, 1.0, 3.0]})
    axes = figures.coherence_bars(table, ["slice_jitter"]).axes[0]
    assert [bar.get_height() for bar in axes.patches[:2]] == [3.0, 2.0]
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert dashed.get_ydata()[0] == 2.0
    band = axes.patches[-1].get_bbox()
    assert (band.y0, band.y1) == pytest.approx((1.8, 2.2))


def test_no_two_methods_look_alike():
    methods = ["before", "gan", "z_score", "min_max", "histogram_matching", "nyul", "white_stripe"]
    looks = figures.method_looks(methods, "gan")
    assert len({tuple(look.values()) for look in looks.values()}) == len(methods)
