"""Latent traits, effect sizes, and the coupling between anatomy and network."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from study_lib.phantom.anatomy import draw_anatomy
from study_lib.phantom.atlas import N_REGIONS
from study_lib.phantom.connectome import draw_connectome, draw_series, edge_effects, load_system_map
from study_lib.phantom.traits import (
    ANATOMY_SHIFT,
    DIAGNOSIS_SIGNS,
    N_TRAITS,
    TRAIT_SHARE,
    anatomy_shift,
    draw_traits,
    load_trait_map,
    regional_scores,
)
from study_lib.phantom.truth import oracle_predictions

DISORDERS = [d for d in DIAGNOSIS_SIGNS if d not in ("control", "dementia")]


def _draw(diagnosis, count, coupling=1.0, seed=0):
    rng = np.random.default_rng([seed, len(diagnosis)])
    return [draw_traits(diagnosis, coupling, rng) for _ in range(count)]


def _cohens_d(patients, controls):
    spread = np.sqrt((patients.var(0) + controls.var(0)) / 2)
    return (patients.mean(0) - controls.mean(0)) / spread


def test_coupling_is_the_correlation_between_the_traits_of_anatomy_and_network():
    for coupling in (0.0, 0.5, 1.0):
        drawn = _draw("control", 4000, coupling)
        anatomy, network = (np.array([getattr(t, side) for t in drawn]) for side in ("anatomy", "network"))
        r = [np.corrcoef(a, n)[0, 1] for a, n in zip(anatomy.T, network.T, strict=True)]
        assert np.allclose(r, coupling, atol=0.06)


def test_without_coupling_diagnosis_leaves_the_anatomy_alone():
    patients = np.array([t.anatomy for t in _draw("autism", 4000, coupling=0.0)])
    networks = np.array([t.network for t in _draw("autism", 4000, coupling=0.0)])
    assert np.abs(patients.mean(0)).max() < 0.06
    assert np.abs(networks.mean(0)).max() > 0.5


def test_a_coupling_that_is_no_correlation_is_refused():
    with pytest.raises(ValueError, match=r"coupling must lie between 0 and 1, got 1\.5"):
        draw_traits("control", 1.5, np.random.default_rng(0))


def test_siblings_share_half_of_the_variance_of_their_traits():
    pairs = []
    for k in range(3000):
        rng = np.random.default_rng(k)
        pairs.append([draw_traits("control", 1.0, rng, np.random.default_rng([k, 1])).anatomy[0] for _ in range(2)])
    assert np.corrcoef(np.array(pairs).T)[0, 1] == pytest.approx(0.5, abs=0.05)
    assert np.var(pairs) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("disorder", DISORDERS)
def test_structure_differs_by_d_of_0_3_in_the_scores_of_affected_regions_and_nowhere_else(disorder):
    rng = np.random.default_rng(1)
    controls, patients = (
        np.array([np.concatenate(regional_scores(t.anatomy, rng)) for t in _draw(who, 20_000)])
        for who in ("control", disorder)
    )
    d = np.abs(_cohens_d(patients, controls))
    affected = np.isin(np.r_[:78, :N_REGIONS], load_trait_map().affected_regions)
    assert d[affected] == pytest.approx(0.3, abs=0.04)
    assert d[~affected].max() < 0.05


def test_structure_as_it_is_written_differs_by_d_of_0_15_to_0_35_and_spreads_as_stated():
    """What the scores become once the cortex is painted and the head deformed; the same people with and without."""
    affected = load_trait_map().affected_regions
    shift = np.zeros(N_TRAITS)
    shift[:11] = anatomy_shift("autism")
    healthy, patients = [], []
    for k in range(60):
        traits = np.random.default_rng(k).normal(size=N_TRAITS)
        healthy.append(draw_anatomy(traits, 40.0, "F", np.random.default_rng([k, 1])))
        patients.append(draw_anatomy(traits + shift, 40.0, "F", np.random.default_rng([k, 1])))
    for measure in ("thickness_mm", "log_volume"):
        before, after = (np.array([getattr(head, measure) for head in group]) for group in (healthy, patients))
        d = np.abs((after - before).mean(0) / before.std(0))
        assert 0.15 < np.quantile(d[affected], 0.1) < np.quantile(d[affected], 0.9) < 0.38
        others = np.setdiff1d(np.arange(d.size), affected)
        assert np.median(d[others]) < 0.06
    thickness = np.array([head.thickness_mm for head in healthy])
    spread = thickness.std(0) / thickness.mean(0)
    assert np.median(spread[affected]) == pytest.approx(0.08, abs=0.015)
    assert np.median(np.delete(spread, affected)) == pytest.approx(0.035, abs=0.01)


def test_at_most_a_fifth_of_the_regions_carries_the_effect_in_mirrored_pairs():
    affected = load_trait_map().affected_regions
    assert len(affected) <= N_REGIONS / 5
    assert set(affected) == {k ^ 1 for k in affected}


def test_traits_explain_most_of_the_regional_variance_between_healthy_people():
    rng = np.random.default_rng(2)
    drawn = _draw("control", 3000)
    scores = np.array([regional_scores(t.anatomy, rng)[1] for t in drawn])
    traits = np.array([t.anatomy for t in drawn])
    fitted = traits @ np.linalg.lstsq(traits, scores, rcond=None)[0]
    assert np.mean(fitted.var(0) / scores.var(0)) == pytest.approx(TRAIT_SHARE, abs=0.02)
    assert scores.std(0) == pytest.approx(np.ones(N_REGIONS), abs=0.06)


@pytest.mark.parametrize("disorder", DISORDERS)
def test_the_oracle_decides_between_two_classes_in_70_to_80_percent(disorder):
    who = ["control"] * 4000 + [disorder] * 4000
    traits = pd.DataFrame([t.anatomy for d in ("control", disorder) for t in _draw(d, 4000)])
    shifts = {d: anatomy_shift(d) for d in ("control", disorder)}
    accuracy = balanced_accuracy_score(who, oracle_predictions(traits, shifts))
    assert 0.70 < accuracy < 0.80
    # and it is the rule that the likelihood gives, written with loops
    likelier = [
        max(shifts, key=lambda d, z=z: -sum((z[k] - shifts[d][k]) ** 2 for k in range(11))) for z in traits.to_numpy()
    ]
    assert list(oracle_predictions(traits, shifts)) == likelier
    assert np.linalg.norm(shifts[disorder]) == pytest.approx(ANATOMY_SHIFT * np.sqrt(11))


def test_every_network_is_a_correlation_matrix():
    for trait in _draw("schizophrenia", 20):
        network = draw_connectome(trait.network, "schizophrenia", np.random.default_rng(3)).network
        assert np.array_equal(network, network.T) or np.allclose(network, network.T, atol=1e-14)
        assert np.allclose(np.diag(network), 1)
        assert np.linalg.eigvalsh(network).min() > 0


def test_series_come_closer_to_the_network_the_longer_the_scan():
    rng = np.random.default_rng(4)
    connectome = draw_connectome(_draw("control", 1)[0].network, "control", rng)
    errors = [np.abs(np.corrcoef(draw_series(connectome, n, rng).T) - connectome.network).mean() for n in (100, 6400)]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("disorder", DISORDERS)
def test_the_edges_of_affected_regions_differ_by_d_around_0_45_and_few_others_do(disorder):
    d = np.abs(edge_effects(disorder))
    regions, systems = load_trait_map().affected_regions, load_system_map()
    star = np.zeros_like(d, bool)
    for trait in range(11):
        own = np.flatnonzero(systems.trait_effects[trait].any(1))
        target = np.flatnonzero(systems.trait_effects[trait].any(0))
        star[np.ix_(own, np.setdiff1d(np.flatnonzero(systems.systems == target[0]), own))] = True
    assert np.isin(np.flatnonzero(star.any(1)), regions).all()
    assert np.median(d[star]) == pytest.approx(0.45, abs=0.05)
    assert np.mean((d[star] > 0.25) & (d[star] < 0.65)) > 0.8
    assert np.mean(d[~(star | star.T)] > 0.2) < 0.06


def test_edge_effects_are_those_of_independently_drawn_people():
    upper, rng = np.triu_indices(N_REGIONS, 1), np.random.default_rng(5)
    controls, patients = (
        np.array([draw_connectome(t.network, who, rng).network[upper] for t in _draw(who, 1500)])
        for who in ("control", "autism")
    )
    assert np.corrcoef(_cohens_d(patients, controls), edge_effects("autism")[upper])[0, 1] > 0.9


def test_knowing_both_sides_does_not_give_the_diagnosis_away():
    """With a coupling below 1 the difference of network and anatomy is noisy, and no perfect sign of disorder."""
    rng = np.random.default_rng(6)
    signs = np.array(DIAGNOSIS_SIGNS["autism"])
    score = {
        who: [(t.network - t.anatomy)[:11] @ signs for t in (draw_traits(who, 0.9, rng) for _ in range(2000))]
        for who in ("control", "autism")
    }
    overlap = np.mean(np.array(score["autism"])[:, None] < np.array(score["control"])[None, :500])
    assert overlap > 0.01
