"""Baselines: each beside what it should be by hand, none learns from test people, and bad input is named."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from small_people import features_of, task_of

from cinp_lib.baselines.bnt import BntConfig, bnt
from cinp_lib.baselines.classifier_training import ClassifierConfig, class_weights, trained_classifier
from cinp_lib.baselines.cnn import CnnConfig, cnn
from cinp_lib.baselines.fcn_linear import fcn_linear
from cinp_lib.baselines.fusion import EqualBlocks, early_fusion, late_fusion
from cinp_lib.baselines.oracle import oracle
from cinp_lib.baselines.phenotype import phenotype, phenotypes
from cinp_lib.baselines.smri_linear import brain_voxels, grey_volumes, measures_of, regional_intensities, smri_linear
from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.folds import Fold, out_of_fold, repeated_folds, site_folds
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.probing import linear_probe, probe
from cinp_lib.tasks import tasks_of
from study_lib.manifest import Manifest, load_manifest
from study_lib.phantom.truth import Truth

BNT = BntConfig(NetworkEncoderConfig(regions=8, heads=2, hidden=8, clusters=4, reduced=2, embedding=8, dropout=0.0))
CNN = CnnConfig(channels=(4, 8), dropout=0.0)
QUICK = ClassifierConfig(epochs=12, patience=12, batch=16, learning_rate=1e-2)


def networks_of(task, shift=1.0, regions=8):
    """Correlation-like matrices, one of whose edges knows the class."""
    rng = np.random.default_rng(2)
    drawn = 0.1 * rng.normal(size=(len(task), regions, regions))
    networks = (drawn + drawn.transpose(0, 2, 1)).astype(np.float32)
    networks[:, 1, 3] = networks[:, 3, 1] = shift * (task.y - 0.5) + 0.2 * rng.normal(size=len(task))
    networks[:, np.arange(regions), np.arange(regions)] = 1
    return networks


def volumes_of(task, shift=0.3, size=8):
    """Brains in [0, 1] whose one quarter is brighter in patients."""
    volumes = np.random.default_rng(3).uniform(0.3, 0.6, (len(task), size, size, size)).astype(np.float32)
    volumes[:, :4, :4] += shift * task.y[:, None, None, None]
    volumes[:, 0] = 0
    return volumes


def test_linear_classifiers_of_edges_find_the_edge_that_knows():
    task = task_of(90)
    found = out_of_fold(task, repeated_folds(task, 2), fcn_linear(networks_of(task), task))
    assert found.value() > 0.8


def test_phenotype_knows_a_site_where_a_class_is_frequent_and_takes_unknown_sites_and_ages():
    task = task_of(120)
    sick_at = np.where(task.table["site"] == "S0", 0.9, 0.1)
    diagnosis = np.where(np.random.default_rng(0).random(120) < sick_at, "autism", "control")
    ages = task.table["age_years"].where(np.arange(120) % 9 > 0)
    task = replace(task, table=task.table.assign(diagnosis=diagnosis, age_years=ages))
    assert out_of_fold(task, repeated_folds(task, 2), phenotype(task)).value() > 0.8
    alone = out_of_fold(task, site_folds(task), phenotype(task))
    assert np.isfinite(alone.table["score_1"]).all(), "a site that nobody of the training part is from"
    with pytest.raises(KeyError, match="phenotype: the table lacks sex"):
        phenotypes(replace(task, table=task.table.drop(columns="sex")))


def test_blocks_weigh_alike_however_many_features_they_have():
    rng = np.random.default_rng(0)
    blocks = rng.normal(5, 3, (50, 4)), rng.normal(0, 0.1, (50, 100))
    made = EqualBlocks((4, 100)).fit_transform(np.hstack(blocks))
    assert (made[:, :4] ** 2).sum() == pytest.approx((made[:, 4:] ** 2).sum())


def test_early_fusion_needs_both_blocks_where_each_knows_half():
    task = task_of(240)
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(240, 3)) + 0.5 * task.y[:, None] for _ in "ab"]
    folds = repeated_folds(task, 3)
    alone = [probe(side, task, folds).value("auroc") for side in sides]
    both = out_of_fold(task, folds, early_fusion(sides, task)).value("auroc")
    late = out_of_fold(task, folds, late_fusion([linear_probe(side, task) for side in sides])).value("auroc")
    assert both > max(alone) and late > max(alone)
    with pytest.raises(ValueError, match=r"two blocks or more of the same people, got \[\(240, 3\)\]"):
        early_fusion(sides[:1], task)
    with pytest.raises(ValueError, match="two methods or more, got 1"):
        late_fusion([linear_probe(sides[0], task)])


@pytest.mark.parametrize("kind", ["phenotype", "early", "late"])
def test_scalers_medians_and_indicators_do_not_look_at_test_people(kind):
    task = task_of(60)
    (fold,) = repeated_folds(task, 1)
    made = []
    for factor in (1.0, 100.0):
        table, blocks = task.table.copy(), [features_of(task, seed=seed) for seed in (1, 2)]
        table.loc[fold.test, "age_years"] *= factor
        for block in blocks:
            block[fold.test] *= factor
        own = replace(task, table=table)
        methods = {"phenotype": phenotype(own), "early": early_fusion(blocks, own)}
        methods["late"] = late_fusion([linear_probe(block, own) for block in blocks])
        made.append(methods[kind](fold))
    assert np.array_equal(made[0].validation, made[1].validation) and made[0].chosen == made[1].chosen
    assert not np.array_equal(made[0].test, made[1].test)


def test_late_fusion_is_the_mean_of_scores_in_their_own_units():
    task = task_of(60)
    (fold,) = repeated_folds(task, 1)
    methods = [linear_probe(features_of(task, seed=seed), task) for seed in (1, 2)]
    expected = np.mean([method(fold).test / method(fold).validation.std() for method in methods], axis=0)
    assert late_fusion(methods)(fold).test == pytest.approx(expected)


def test_regional_intensities_are_what_a_loop_over_regions_finds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 6, 7))
    tissue = rng.integers(0, 3, (2, 5, 6, 7))
    volumes = (np.array([0.1, 0.5, 0.9])[tissue] + 0.01 * rng.normal(size=tissue.shape)).astype(np.float32)
    made = regional_intensities(volumes, labels)
    for k in range(2):
        parts = [volumes[k], tissue[k] == 1, tissue[k] == 2]
        expected = [
            np.mean([part[i] for i in zip(*np.nonzero(labels == r), strict=True)]) for part in parts for r in (1, 2, 3)
        ]
        assert made[k][:3] == pytest.approx(expected[:3])
        assert made[k][3:] == pytest.approx(expected[3:], abs=0.05), "a voxel or two lie at a border"
    with pytest.raises(ValueError, match="on the labels' grid"):
        regional_intensities(volumes[:, 1:], labels)


def test_grey_volumes_are_millilitres_by_region_whatever_way_the_map_is_stored(tmp_path):
    labels = np.zeros((6, 6, 6), np.int16)
    labels[:3], labels[3:] = 1, 2
    atlas = Atlas("two", ("left", "right"), labels, np.diag([10.0, 10, 10, 1]))
    share = np.random.default_rng(0).uniform(size=labels.shape)
    flipped = np.diag([-10.0, 10, 10, 1])
    flipped[0, 3] = 50
    nib.save(nib.Nifti1Image(share[::-1], flipped), tmp_path / "s1_label-GM_probseg.nii.gz")
    rows = pd.DataFrame({"t1w_mask": ["s1_desc-brain_mask.nii.gz"], "subject": "s1"})
    cohort = Manifest(rows, rows, rows, tmp_path, "")
    assert grey_volumes(cohort, rows, atlas)[0] == pytest.approx([share[:3].sum(), share[3:].sum()])
    other = pd.DataFrame(
        {"t1w_mask": ["s1_desc-brain_mask.nii.gz", "s2_desc-brain_mask.nii.gz"], "subject": ["s1", "s2"]}
    )
    assert grey_volumes(cohort, other, atlas) is None


def test_measures_of_a_table_come_in_the_order_of_the_people(tmp_path):
    task = task_of(6)
    table = pd.DataFrame({"subject": task.table["subject"], "thickness": np.arange(6.0), "note": "x"})
    table.iloc[::-1].to_csv(tmp_path / "measures.csv", index=False)
    assert measures_of(tmp_path / "measures.csv", task)[:, 0].tolist() == list(range(6))
    table.assign(thickness=[0, 1, np.nan, 3, 4, 5]).iloc[1:].to_csv(tmp_path / "gaps.csv", index=False)
    with pytest.raises(ValueError, match="nobody called p000, empty cells in thickness"):
        measures_of(tmp_path / "gaps.csv", task)


@pytest.mark.parametrize("kind", ["bnt", "cnn"])
def test_deep_classifiers_learn_what_knows_the_class_and_repeat_to_the_bit(kind):
    task = task_of(80)
    folds = repeated_folds(task, 1)
    made = [
        bnt(networks_of(task), task, replace(BNT, training=QUICK))
        if kind == "bnt"
        else cnn(volumes_of(task), task, replace(CNN, training=QUICK))
        for _ in range(2)
    ]
    first, again = (out_of_fold(task, folds, method) for method in made)
    assert first.value("auroc") > 0.9
    assert first.table.equals(again.table)


@pytest.mark.parametrize("kind", ["bnt", "cnn"])
def test_deep_classifiers_do_not_look_at_test_people(kind):
    task = task_of(40)
    (fold,) = repeated_folds(task, 1)
    config = replace(QUICK, epochs=2)
    made = []
    for factor in (1.0, 0.5):
        networks, volumes = networks_of(task), volumes_of(task)
        networks[fold.test] *= factor
        volumes[fold.test] *= factor
        if kind == "bnt":
            made.append(bnt(networks, task, replace(BNT, training=config))(fold))
        else:
            made.append(cnn(volumes, task, replace(CNN, training=config))(fold))
    assert np.array_equal(made[0].validation, made[1].validation) and made[0].chosen == made[1].chosen
    assert not np.array_equal(made[0].test, made[1].test)


def test_the_state_that_is_kept_is_the_best_on_validation_and_training_stops_early():
    task = task_of(60)
    inputs, (fold,) = torch.from_numpy(features_of(task, 0.0)).float(), repeated_folds(task, 1)
    config = ClassifierConfig(epochs=200, patience=3, learning_rate=0.1)
    seen = []

    class Counted(torch.nn.Linear):
        def train(self, mode=True):
            seen.append(mode)
            return super().train(mode)

    epoch = trained_classifier(lambda: Counted(7, 2), inputs, task, config)(fold).chosen["epoch"]
    assert sum(seen) == epoch + 3 < 200, "three epochs without a better one"


def test_classes_count_alike_and_the_mean_weight_is_one():
    labels = torch.tensor([0, 0, 0, 1])
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([4 / 6, 2]) and float(weights[labels].mean()) == pytest.approx(1)


def test_a_loss_that_is_no_number_raises_and_wrong_numbers_of_people_are_refused():
    task = task_of(40)
    inputs = torch.full((40, 7), torch.nan)
    method = trained_classifier(lambda: torch.nn.Linear(7, 2), inputs, task, QUICK)
    with pytest.raises(FloatingPointError, match="cross_entropy = nan"):
        method(repeated_folds(task, 1)[0])
    with pytest.raises(ValueError, match="an input for each of 40 people, got 39"):
        trained_classifier(lambda: torch.nn.Linear(7, 2), inputs[1:], task, QUICK)
    with pytest.raises(ValueError, match="one row of features for each of 40 people"):
        smri_linear(np.zeros((3, 2)), task)
    with pytest.raises(ValueError, match="epochs: expected at least 1, got 0"):
        ClassifierConfig(epochs=0)


def test_voxels_are_those_that_are_brain_in_most_people():
    volumes = volumes_of(task_of(10))
    volumes[:6, 1] = 0
    assert brain_voxels(volumes).shape == (10, 6 * 64), "two of eight slices are background in most"


def test_the_oracle_says_what_the_true_traits_say(phantom):
    truth, table = Truth.beside(phantom), load_manifest(phantom, check_files=False).table
    task = tasks_of(table)["abide"]
    (split,) = task.splits(1)
    made = oracle(task, truth)(Fold("one", *(task.part(part) for part in (split.train, split.validation, split.test))))
    shifts = truth.effects()["anatomy_shift"]
    for place, scores in zip(task.part(split.test), made.test, strict=True):
        traits = truth.table("anatomy_traits").loc[task.table["subject"].iloc[place]].to_numpy()[:11]
        distance = [sum((t - s) ** 2 for t, s in zip(traits, shifts[name], strict=True)) for name in task.classes]
        assert scores.tolist() == [float(k == int(np.argmin(distance))) for k in range(2)]
