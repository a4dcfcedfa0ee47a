"""Embeddings as files, models as folders, and the probe that asks an embedding for its scanner."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import MODEL
from small_pairs import PAIRS, networks_of, people, write_cohort, write_store

from cinp_lib.embeddings import PairEmbeddings, embed_networks, embed_pairs
from cinp_lib.evaluation import alignment_scores, scores_of
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore
from cinp_lib.pretrained_model import PretrainedModel
from cinp_lib.site_probe import site_probe
from study_lib.splits import LeakError
from study_lib.training import DamagedFile


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("embedded"), people(12))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Cinp(MODEL).eval()


def test_every_pair_gets_its_own_embeddings_whatever_the_batch(model, store):
    whole, few = embed_pairs(model, store), embed_pairs(model, store, batch=5)
    np.testing.assert_allclose(whole.images, few.images, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole.networks, axis=1), 1, atol=1e-6)
    for k in (0, 7):
        alone = torch.from_numpy(store.volumes(np.array([k])))[:, None]
        with torch.no_grad():
            np.testing.assert_allclose(model.embed_images(alone)[0].numpy(), whole.images[k], atol=1e-6)
    np.testing.assert_allclose(embed_networks(model, store.networks(np.arange(12))), whole.networks, atol=1e-6)


def test_embedding_leaves_a_model_in_training_as_it_was(store):
    torch.manual_seed(0)
    training = Cinp(MODEL).train()
    before = {name: value.clone() for name, value in training.state_dict().items()}
    embed_pairs(training, store)
    assert training.training and training.image_projection.standardise.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_an_image_without_network_has_an_embedding_and_its_network_none(model, tmp_path):
    group = people(3)
    cohort = write_cohort(tmp_path, group)
    config = replace(PAIRS, alone=True)
    store = PairStore.build(cohort.table, cohort, networks_of(group[:2]), tmp_path / "pairs", config, 1)
    embedded = embed_pairs(model, store)
    assert np.isfinite(embedded.images).all()
    assert np.isfinite(embedded.networks).all(1).tolist() == [True, True, False]


def test_embeddings_come_back_from_their_files_as_they_were(model, store, tmp_path):
    embedded = embed_pairs(model, store)
    paths = embedded.save(tmp_path / "pre.training")
    assert [path.name for path in paths] == ["pre.training.npz", "pre.training.csv"]
    back = PairEmbeddings.load(tmp_path / "pre.training")
    np.testing.assert_array_equal(back.images, embedded.images)
    np.testing.assert_array_equal(back.networks, embedded.networks)
    for name in ("subject", "session", "site", "role", "diagnosis", "age_years"):
        assert back.table[name].tolist() == embedded.table[name].tolist()


def test_files_of_different_people_are_refused(model, store, tmp_path):
    embed_pairs(model, store).save(tmp_path / "all")
    turned = (tmp_path / "all.csv").read_text().splitlines()
    (tmp_path / "all.csv").write_text("\n".join([turned[0], *turned[:0:-1]]) + "\n")
    with pytest.raises(ValueError, match="hold other people, or another order; export them again"):
        PairEmbeddings.load(tmp_path / "all")


def saved(model, store, folder):
    return PretrainedModel(model, PAIRS, store.table, {"cohort": "test"}).save(folder)


def test_a_model_comes_back_from_its_folder_and_embeds_the_same(model, store, tmp_path):
    back = PretrainedModel.load(saved(model, store, tmp_path))
    assert back.model.config == model.config and not back.model.training
    assert back.pairs == PAIRS and back.about == {"cohort": "test"}
    np.testing.assert_array_equal(embed_pairs(back.model, store).images, embed_pairs(model, store).images)


def test_a_model_knows_whom_it_has_seen(model, store, tmp_path):
    back = PretrainedModel.load(saved(model, store.select(np.arange(12) < 6), tmp_path))
    back.forbid_leak(store.table.iloc[6:])
    with pytest.raises(LeakError, match="shared subject"):
        back.forbid_leak(store.table.iloc[5:])


def test_a_folder_that_is_no_whole_model_is_refused(model, store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a pre-trained model.*python -m cinp_lib pretrain"):
        PretrainedModel.load(tmp_path)
    folder = saved(model, store, tmp_path / "model")
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedFile):
        PretrainedModel.load(folder)


def test_weights_of_another_patch_merging_are_refused(model, store, tmp_path):
    """Loading them would succeed, and give other features."""
    folder = saved(model, store, tmp_path)
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"merging": "v2"', '"merging": "legacy"'))
    with pytest.raises(ValueError, match="patch merging 'v2', the model has 'legacy'; its features would be others"):
        PretrainedModel.load(folder)


def sites_of(number=60, knows=True):
    """Embeddings of people at three sites, families of two."""
    rng = np.random.default_rng(0)
    sites = np.array(["A", "B", "C"])[np.arange(number) // 2 % 3]
    embeddings = rng.normal(size=(number, 6))
    if knows:
        embeddings[:, 2] += 3.0 * (sites == "B") - 3.0 * (sites == "C")
    subjects = [f"s{k}" for k in range(number)]
    return embeddings, sites, subjects, [f"f{k // 2}" for k in range(number)]


def test_the_probe_finds_a_site_that_is_there_and_none_that_is_not():
    assert site_probe(*sites_of()).balanced_accuracy > 0.85
    blind = site_probe(*sites_of(knows=False))
    assert abs(blind.balanced_accuracy - blind.chance) < 0.17
    assert blind.chance == pytest.approx(1 / 3)


def test_the_probe_is_not_fooled_by_families():
    """Siblings share an embedding that says nothing of the site: known from a sibling it would be found each time."""
    _, sites, subjects, families = sites_of(120)
    own = np.random.default_rng(1).normal(size=(60, 80)).repeat(2, axis=0)
    assert site_probe(own, sites, subjects, families).balanced_accuracy < 0.55
    assert site_probe(own, sites, subjects, subjects).balanced_accuracy > 0.8


def test_the_probe_needs_people_enough():
    embeddings, sites, subjects, families = sites_of(24)
    with pytest.raises(ValueError, match="with 5 scans or more each, got A 8, B 8, D 1"):
        site_probe(
            embeddings[:17], [*sites[:16][sites[:16] != "C"], *["A"] * 2, *["B"] * 2, "D"], subjects[:17], families[:17]
        )
    with pytest.raises(ValueError, match="expected finite embeddings"):
        site_probe(np.full((24, 6), np.nan), sites, subjects, families)


def test_scores_of_unseen_people_have_the_names_of_the_contract(model, store):
    scores = alignment_scores(model, store)
    assert {"retrieval_r1", "retrieval_gallery", "retrieval_r1_chance", "retrieval_r1_within_site"} <= set(scores)
    assert scores["retrieval_gallery"] == 12 and scores["retrieval_r1_chance"] == pytest.approx(1 / 12)
    assert scores["retrieval_r1_within_site_chance"] == pytest.approx(1 / 6)
    assert 0 <= scores["site_probe_balanced_accuracy"] <= 1
    embedded = embed_pairs(model, store)
    perfect = scores_of(replace(embedded, networks=embedded.images))
    assert perfect["retrieval_r1"] == perfect["retrieval_r1_within_site"] == 1
