"""Heads of the phantom: what is said of them is true of the voxels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from study_lib.phantom import anatomy as anatomy_module
from study_lib.phantom.anatomy import draw_anatomy, hemisphere_thickness, region_labels, tissue_shares
from study_lib.phantom.atlas import N_CORTICAL, N_REGIONS, cluster_centres, load_atlas, nearest_cortical_region
from study_lib.phantom.template import LOWEST_CORNER_MM, load_template, signed_distance
from study_lib.phantom.traits import N_TRAITS


def _head(seed=0, traits=None, age=40.0, sex="F"):
    traits = np.zeros(N_TRAITS) if traits is None else traits
    return draw_anatomy(traits, age, sex, np.random.default_rng(seed))


def _grid(spacing):
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = LOWEST_CORNER_MM
    return affine, tuple(int(n // spacing) for n in (176, 214, 172))


def test_the_atlas_has_116_mirrored_regions_that_all_hold_voxels():
    atlas = load_atlas()
    assert len(set(atlas.names)) == N_REGIONS == 116
    assert Counter(atlas.hemispheres) == {"L": 54, "R": 54, "M": 8}
    counts = np.bincount(atlas.labels.ravel(), minlength=117)[1:]
    assert counts.min() > 1000
    left = [name for name in atlas.names if name.endswith("_L")]
    for name in left:
        k = atlas.names.index(name)
        assert atlas.names[k + 1] == name[:-1] + "R"
        assert atlas.centres[k] == pytest.approx(atlas.centres[k + 1] * (-1, 1, 1))


def test_no_left_region_reaches_into_the_right_hemisphere():
    atlas = load_atlas()
    x = np.argwhere(atlas.labels > 0)[:, 0] + atlas.affine[0, 3]
    side = np.append("", atlas.hemispheres)[atlas.labels[atlas.labels > 0]]
    assert x[side == "L"].max() < 0 <= x[side == "R"].min()


def test_cluster_centres_find_blobs_without_a_random_start():
    rng = np.random.default_rng(0)
    blobs = np.concatenate([rng.normal(c, 0.1, (50, 3)) for c in ((0, 0, 0), (5, 0, 1), (0, 5, 2))])
    found = cluster_centres(blobs, 3)
    assert found == pytest.approx(np.array([(0, 0, 0), (5, 0, 1), (0, 5, 2)]), abs=0.1)
    assert np.array_equal(found, cluster_centres(blobs, 3))


@pytest.mark.parametrize("true_radius", [5.0, 12.3])
def test_signed_distance_is_that_of_a_sphere(true_radius):
    radius = np.sqrt(((np.indices((41, 41, 41)) - 20.2) ** 2).sum(0))
    distance = signed_distance(radius < true_radius)
    shell = (radius > true_radius - 1) & (radius < true_radius + 5)
    assert np.abs(distance - (radius - true_radius))[shell].mean() < 0.15
    assert np.polyfit(radius[shell], distance[shell], 1)[0] == pytest.approx(1, abs=0.015)


def test_tissue_shares_lie_between_0_and_1_and_fill_the_brain():
    shares = tissue_shares(_head(), *_grid(3))
    for name, share in shares.items():
        assert share.min() >= -1e-6, name
        assert share.max() <= 1 + 1e-6, name
    total = shares["grey"] + shares["white"] + shares["deep"] + shares["fluid"]
    assert total[shares["brain"] == 1] == pytest.approx(1, abs=1e-5)


def test_looking_up_voxels_near_the_brain_only_gives_what_looking_up_all_gives(monkeypatch):
    quick = tissue_shares(_head(1), *_grid(4))
    monkeypatch.setattr(anatomy_module, "BRAIN_MARGIN_MM", np.inf)
    plain = tissue_shares(_head(1), *_grid(4))
    for name in plain:
        assert np.array_equal(quick[name], plain[name]), name


@pytest.mark.parametrize("age", [10.0, 80.0])
def test_the_cortex_is_as_thick_as_the_truth_says(age):
    """Measured on the crowns of the folds, where a ray leaves the white matter and meets no other fold."""
    template = load_template()
    head = _head(3, np.random.default_rng(3).normal(size=N_TRAITS), age=age)
    undeformed = replace(head, displacement=np.zeros_like(head.displacement))
    grey = tissue_shares(undeformed, template.affine, template.cortex.shape)["grey"] - template.hindbrain_grey
    start, measured = _thickness_on_crowns(grey, template)
    nodes = (start / anatomy_module.PAINT_SPACING_MM).T
    painted = ndimage.map_coordinates(head.thickness_paint, nodes, order=1)
    region = nearest_cortical_region(start + template.affine[:3, 3], load_atlas())
    enough = np.flatnonzero(np.bincount(region, minlength=N_CORTICAL) > 40)
    assert len(enough) > 40
    assert measured.mean() == pytest.approx(painted.mean(), rel=0.025)
    error = np.array([measured[region == k].mean() / painted[region == k].mean() - 1 for k in enough])
    assert np.abs(error).max() < 0.12  # two regions beside the callosum, where the cortex ends
    assert (np.abs(error) < 0.08).mean() > 0.95


def _thickness_on_crowns(grey, template):
    """Where rays leave the white surface, and the grey share summed along each."""
    distance, step = template.white_distance, 0.25
    start = np.argwhere((np.abs(distance) < 0.5) & (template.cortex > 0.98) & (template.hindbrain_grey < 0.01))[::2]
    direction = np.stack([g[tuple(start.T)] for g in np.gradient(distance)], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    reach = np.arange(-2, 7, step)
    rays = np.moveaxis(start[:, :, None] + direction[:, :, None] * reach, 1, 0)
    along = ndimage.map_coordinates(distance, rays, order=1)
    clear = np.abs(along - along[:, [8]] - reach).max(1) < 0.5
    return start[clear], ndimage.map_coordinates(grey, rays[:, clear], order=1).sum(1) * step


def test_regional_truth_is_the_mean_of_the_painted_thickness_over_the_surface():
    head = _head(4)
    points, owner = anatomy_module._surface()
    nodes = ((points - np.array(LOWEST_CORNER_MM)) / anatomy_module.PAINT_SPACING_MM).T
    painted = ndimage.map_coordinates(head.thickness_paint, nodes, order=1)
    for k in (0, 17, 50):
        assert head.thickness_mm[k] == pytest.approx(painted[owner == k].mean(), rel=1e-4)
    sides = hemisphere_thickness(head.thickness_mm)
    assert sides["left"] == pytest.approx(painted[owner % 2 == 0].mean(), rel=1e-4)
    assert sides["right"] == pytest.approx(painted[owner % 2 == 1].mean(), rel=1e-4)


def test_a_trait_thickens_and_enlarges_its_own_regions_and_no_others():
    up, down = np.zeros((2, N_TRAITS))
    up[0], down[0] = 2, -2
    heads = [(_head(k, up), _head(k, down)) for k in range(3)]
    affected = np.flatnonzero(np.abs(anatomy_module.load_trait_map().loadings[:, 0]) > 0)
    thicker = np.mean([a.thickness_mm - b.thickness_mm for a, b in heads], axis=0)
    larger = np.mean([a.log_volume - b.log_volume for a, b in heads], axis=0)
    assert set(np.argsort(thicker)[-2:]) == set(affected)
    assert set(np.argsort(larger[:N_CORTICAL])[-2:]) == set(affected)
    assert thicker[affected].min() > 0.5
    assert np.median(np.abs(thicker)) < 0.02


def test_folding_moves_tissue_and_keeps_its_volume():
    displacement = anatomy_module._folding(np.random.default_rng(5))
    assert displacement.std() == pytest.approx(anatomy_module.FOLDING_SPREAD_MM, rel=0.3)
    divergence = sum(np.gradient(displacement[k], anatomy_module.FIELD_SPACING_MM, axis=k) for k in range(3))
    shear = np.gradient(displacement[0], anatomy_module.FIELD_SPACING_MM, axis=1)
    inner = (slice(4, -4),) * 3
    assert divergence[inner].std() < 0.02 * shear[inner].std()


def test_growth_changes_volume_by_as_much_as_it_is_told():
    log_jacobian = np.zeros(anatomy_module._field_shape())
    log_jacobian[12:18, 12:18, 12:18] = 0.1
    log_jacobian = ndimage.gaussian_filter(log_jacobian, 1.5)
    field = anatomy_module._field_of_growth(log_jacobian)
    divergence = sum(np.gradient(field[k], anatomy_module.FIELD_SPACING_MM, axis=k) for k in range(3))
    inside = log_jacobian > 0.05
    assert divergence[inside] == pytest.approx((log_jacobian - log_jacobian.mean())[inside], rel=0.25)


def test_log_volume_is_what_happens_to_the_voxels_of_a_region():
    heads = [_head(k, np.random.default_rng(k).normal(size=N_TRAITS)) for k in range(6)]
    affine, shape = _grid(2)
    counts = np.array([np.bincount(region_labels(h, affine, shape).ravel(), minlength=117)[1:] for h in heads])
    claimed = np.array([h.log_volume for h in heads])
    seen = np.log(counts) - np.log(counts).mean(0)
    assert np.corrcoef((claimed - claimed.mean(0)).ravel(), seen.ravel())[0, 1] > 0.85


def test_age_thins_the_cortex_and_widens_the_ventricles_and_men_have_larger_heads():
    young, old = tissue_shares(_head(3, age=20.0), *_grid(3)), tissue_shares(_head(3, age=80.0), *_grid(3))
    assert old["grey"].sum() < 0.95 * young["grey"].sum()
    assert old["fluid"].sum() > 1.05 * young["fluid"].sum()
    woman, man = (tissue_shares(_head(3, sex=sex), *_grid(4))["brain"].sum() for sex in "FM")
    assert man / woman == pytest.approx(1.03**3, rel=0.02)


def test_sampling_is_linear_interpolation_at_world_points():
    maps = np.random.default_rng(6).normal(size=(2, 7, 6, 5)).astype(np.float32)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (-5, 1, 2)
    points = np.random.default_rng(7).uniform((-5, 1, 2), (7, 16, 18), (50, 3)).astype(np.float32)
    sampled = anatomy_module._sample(torch.from_numpy(maps), torch.from_numpy(points), affine).numpy()
    index = ((points - affine[:3, 3]) / np.diag(affine)[:3]).T
    expected = np.stack([ndimage.map_coordinates(m, index, order=1) for m in maps])
    assert sampled == pytest.approx(expected, abs=1e-5)
