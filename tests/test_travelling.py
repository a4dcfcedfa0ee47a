"""Travelling subjects: every pair of sites alike, nobody dropped in silence, names as the contract has them."""

import json

import numpy as np
import pandas as pd
import pytest

from gan_lib import travelling
from gan_lib.similarity import METRICS, mean_absolute_error
from gan_lib.travelling import Travellers, Visit, evaluate, stored, translate_all, travellers_of
from gan_lib.travelling_scores import (
    gain,
    institution_table,
    mean_over_pairs,
    method_table,
    pair_matrix,
    pair_table,
    pairs_improved,
    read_scores,
    score,
    travelling_metrics,
)
from study_lib.grid import Grid
from study_lib.intensity import StudyNormaliser
from study_lib.manifest import load_manifest
from study_lib.preparation import PreparedScan
from study_lib.statistics import BootstrapSettings

SITES = {"A": 0.15, "B": 0.0, "C": -0.2}  # what each scanner adds
SHAPE = (12, 13, 11)
FEW = BootstrapSettings(draws=200)


def visit(subject, site, session="", noise=0.01) -> Visit:
    seed = [ord(letter) for letter in f"{subject}{site}{session}"]
    anatomy = np.random.default_rng([ord(subject[-1]), 7]).uniform(0.3, 0.7, SHAPE)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:10, 1 + (site == "B") : 12, 2:9] = True
    volume = anatomy + SITES[site] + noise * np.random.default_rng(seed).normal(size=SHAPE)
    volume = np.where(mask, np.clip(volume, 0, 1), 0).astype(np.float32)
    scan = PreparedScan(subject, session or site.lower(), site, 100 * volume, mask)
    return Visit(scan, volume)


def travellers(subjects=("s1", "s2", "s3"), sites=tuple(SITES)) -> Travellers:
    again = [visit(subject, site, f"{site.lower()}rescan") for subject, site in zip(subjects, sites, strict=False)]
    return travellers_of([visit(subject, site) for subject in subjects for site in sites] + again)


def perfect(scan: Visit, target: str) -> np.ndarray:
    """Takes the source scanner's step out and puts the target's in."""
    return np.where(scan.mask, np.clip(scan.volume - SITES[scan.site] + SITES[target], 0, 1), 0).astype(np.float32)


def half(scan: Visit, target: str) -> np.ndarray:
    return (scan.volume + perfect(scan, target)) / 2


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return evaluate(travellers(), {"gan": perfect, "half_way": half})


def test_rescans_are_the_later_sessions_of_a_site():
    found = travellers()
    assert (found.subjects, found.sites, len(found.visits)) == (["s1", "s2", "s3"], ["A", "B", "C"], 9)
    assert [scan.scan.session for scan in found.rescans] == ["arescan", "brescan", "crescan"]
    assert [first.scan.session for _, first in found.repeats()] == ["a", "b", "c"]
    assert len(list(found.pairs())) == 3 * 6


def test_who_was_scanned_at_one_site_is_left_out_by_name():
    found = travellers_of([visit("s1", "A"), visit("s1", "B"), visit("s2", "A"), visit("s2", "A", "z")])
    assert found.subjects == ["s1"] and found.rescans == ()
    assert found.left_out["subject"].tolist() == ["s2"]
    with pytest.raises(ValueError, match="no travelling subject was scanned at two sites"):
        travellers_of([visit("s1", "A"), visit("s2", "B")])


def test_scores_are_those_of_each_image_inside_the_mask_of_both(scores):
    found = travellers()
    source, target = found.visits["s2", "A"], found.visits["s2", "B"]
    both = source.mask & target.mask
    assert both.sum() < source.mask.sum()
    row = scores.query("subject == 's2' and source == 'A' and target == 'B'").set_index("method")
    assert row.loc["before", "mae"] == mean_absolute_error(source.volume, target.volume, both)
    assert row.loc["gan", "mae"] == mean_absolute_error(perfect(source, "B"), target.volume, both)
    rescan = scores[(scores["method"] == "rescan") & (scores["subject"] == "s2")]
    assert rescan[["source", "target"]].to_numpy().tolist() == [["B", "B"]]
    assert len(scores) == 3 * 6 * 3 + 3


def test_threads_and_stored_translations_change_no_number(scores):
    found = travellers()
    methods = {name: stored(translate_all(found, of)) for name, of in {"gan": perfect, "half_way": half}.items()}
    pd.testing.assert_frame_equal(evaluate(found, methods, n_jobs=2), scores)


def test_a_perfect_method_reaches_the_rescan_and_half_of_it_goes_half_the_way(scores):
    metrics = travelling_metrics(scores, "gan", settings=FEW)
    assert metrics["mae_after"] == pytest.approx(metrics["mae_rescan"], rel=0.1)
    assert metrics["mae_way_to_rescan"] == pytest.approx(1, abs=0.05)
    assert metrics["mae_after_half_way"] == pytest.approx(metrics["mae_before"] / 2, rel=0.1)
    assert (metrics["pairs_improved"], metrics["pairs_improved_half_way"], metrics["pairs"]) == (6, 6, 6)
    assert metrics["ssim_before"] < metrics["ssim_after_half_way"] < metrics["ssim_after"]
    assert metrics["mae_before_low"] <= metrics["mae_before"] <= metrics["mae_before_high"]


def test_the_metrics_have_the_names_of_the_contract_and_are_plain_numbers(scores):
    metrics = travelling_metrics(scores, "gan", settings=FEW)
    wanted = {f"{metric}_{when}" for metric in ("ssim", "mae", "psnr") for when in ("before", "after", "rescan")}
    assert wanted | {"pairs_improved", "ssim_after_half_way", "mae_after_half_way"} <= set(metrics)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_method_that_harms_one_pair_improves_the_others_only():
    def harmful(scan, target):
        return scan.volume * 0 + 0.5 * scan.mask if (scan.site, target) == ("A", "C") else perfect(scan, target)

    mae = {"mae": METRICS["mae"]}
    scores = evaluate(travellers(), {"gan": lambda scan, target: 1 - harmful(scan, target)}, mae)
    assert pairs_improved(scores, "gan") < 6
    by_hand = 0
    for source, target in [(a, b) for a in SITES for b in SITES if a != b]:
        own = scores[(scores["source"] == source) & (scores["target"] == target)].groupby("method")["mae"].mean()
        by_hand += own["gan"] < own["before"]
    assert pairs_improved(scores, "gan") == by_hand


def test_a_pair_with_fewer_subjects_counts_no_less():
    values, pairs = [1.0, 1.0, 1.0, 5.0], ["ab", "ab", "ab", "ba"]
    statistic = mean_over_pairs(values, pairs)
    assert statistic(np.ones((1, 4)))[0] == 3.0
    # drawn: the first row twice; the other pair not at all
    assert statistic(np.array([[2.0, 0, 0, 0], [1, 0, 0, 1]])).tolist() == [1.0, 3.0]


def test_the_interval_is_over_subjects_and_one_subject_has_none(scores):
    rows = scores[scores["method"] == "before"]
    interval = score(rows, "mae", FEW)
    assert interval.n == 3 and interval.low < interval.value < interval.high
    alone = score(rows[rows["subject"] == "s1"], "mae")
    assert alone.n == 1 and np.isnan(alone.low) and np.isnan(alone.high)
    single = evaluate(travellers(subjects=("s1",)), {"gan": perfect})
    assert not any(name.endswith("_low") for name in travelling_metrics(single, "gan"))


def test_tables_hold_the_means_per_method_pair_and_site(scores):
    rows = scores[scores["method"] == "gan"]
    table = method_table(scores, settings=FEW).set_index(["method", "metric"])
    assert table.loc[("gan", "mae"), "value"] == pytest.approx(rows.groupby(["source", "target"])["mae"].mean().mean())
    pairs = pair_table(scores, settings=FEW)
    assert len(pairs) == 6 * 3 * len(METRICS) and "rescan" not in set(pairs["method"])
    sites = institution_table(scores, settings=FEW).set_index(["target", "method", "metric"])["value"]
    assert sites["C", "gan", "ssim"] == pytest.approx(rows[rows["target"] == "C"]["ssim"].mean())
    assert sites["B", "rescan", "mae"] == scores.query("method == 'rescan' and target == 'B'")["mae"].item()
    as_source = institution_table(scores, "source", settings=FEW).set_index(["source", "method", "metric"])["value"]
    assert as_source["C", "gan", "ssim"] == pytest.approx(rows[rows["source"] == "C"]["ssim"].mean())
    matrix = pair_matrix(scores, "gan", "mae")
    assert matrix.loc["A", "C"] == pytest.approx(rows.query("source == 'A' and target == 'C'")["mae"].mean())
    assert np.isnan(np.diag(matrix)).all()


def test_a_gain_is_paired(scores):
    got = gain(scores, "gan", "ssim", settings=FEW)
    difference = score(scores[scores["method"] == "gan"], "ssim").value
    difference -= score(scores[scores["method"] == "before"], "ssim").value
    assert got.value == pytest.approx(difference) and got.low > 0
    with pytest.raises(ValueError, match="were not scored on the same pairs"):
        gain(scores, "rescan", "ssim")
    with pytest.raises(KeyError, match="no scores of 'nyul': there are before, gan, half_way, rescan"):
        gain(scores, "nyul", "ssim")


def test_saved_scores_come_back_digit_for_digit(scores, tmp_path):
    named = scores.assign(subject="007", source="NA")
    named.to_csv(tmp_path / "scores.csv", index=False)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "scores.csv"), named)


def test_an_infinite_score_is_named_before_it_spoils_a_mean():
    scores = evaluate(travellers(), {"gan": lambda scan, target: scan.volume})
    scores.loc[0, "psnr"] = np.inf
    with pytest.raises(ValueError, match="PSNR of equal images is"):
        method_table(scores)


def test_an_error_names_method_subject_and_sites():
    found = travellers(subjects=("s1",))
    with pytest.raises(ValueError, match=r"loud, subject s1, A to B: .*runs from .* expected \[0, 1\]"):
        evaluate(found, {"loud": lambda scan, target: scan.volume * 300})
    with pytest.raises(ValueError, match=r"cut, subject s1, A to B: .*one shape"):
        evaluate(found, {"cut": lambda scan, target: scan.volume[1:]})
    with pytest.raises(ValueError, match="before is added by itself; give the method another name"):
        evaluate(found, {"before": perfect})


def test_travelling_subjects_of_the_phantom_are_read_from_their_manifest(phantom):
    cohort = load_manifest(phantom, check_files=False)
    found = travelling.read_travellers(cohort, Grid.isotropic(6.0), StudyNormaliser())
    assert found.sites == ["ADNI", "GMC", "GSEV", "SMC"] and len(found.subjects) == 2
    assert len(found.rescans) == 2 and found.left_out.empty
    judged = {name: METRICS[name] for name in ("ssim", "mae")}
    scores = evaluate(found, {"gan": lambda scan, target: found.visits[scan.subject, target].volume}, judged)
    metrics = travelling_metrics(scores, "gan", judged, FEW)
    assert (metrics["pairs_improved"], metrics["pairs"], metrics["ssim_after"]) == (12, 12, 1.0)
    assert metrics["ssim_before"] < metrics["ssim_rescan"] and metrics["mae_rescan"] < metrics["mae_before"]
    cohort.table["role"] = "test"
    with pytest.raises(ValueError, match="no T1w of a travelling subject: give those who were scanned"):
        travelling.read_travellers(cohort, Grid.isotropic(6.0), StudyNormaliser())


def test_baselines_and_harmonisers_become_methods():
    from gan_lib.baselines import BASELINES

    found = travellers()
    firsts = list(found.visits.values())
    scans = [scan.scan for scan in firsts]
    columns = ([s.head for s in scans], [s.mask for s in scans], [s.subject for s in scans], [s.site for s in scans])
    fitted = {site: BASELINES["histogram_matching"]().fit(*columns, target=site) for site in found.sites}
    translated = travelling.by_target(fitted)(firsts[0], "C")
    assert np.array_equal(translated, fitted["C"].transform(scans[0].head, scans[0].mask))

    class Brighter:
        """Stands for a trained model: what it is given and gives back are NIfTI images."""

        def harmonize(self, image, target, mask):
            values = np.asarray(image.dataobj) / 100 + SITES[target] - SITES["A"]
            return type(image)(np.where(np.asarray(mask.dataobj) > 0, values, 0), image.affine)

    got = travelling.harmonised_by(Brighter(), Grid(SHAPE, np.eye(4)))(found.visits["s1", "A"], "B")
    assert got.dtype == np.float32 and np.allclose(got, perfect(found.visits["s1", "A"], "B"), atol=1e-5)
