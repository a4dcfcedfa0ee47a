"""The pre-training model: what it sees of what, and that embeddings are apart from the first steps on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import CALM, MODEL
from small_pairs import PAIRS, REGIONS, head, network, people

from cinp_lib.losses import image_network_contrastive
from cinp_lib.masking import draw_mask
from cinp_lib.model import Cinp, ModelConfig


def made(config=CALM, seed=0):
    torch.manual_seed(seed)
    return Cinp(config)


def inputs(number=5, seed=0):
    """Volumes, masks and networks of strangers."""
    group = people(number, seed=seed)
    volumes = torch.from_numpy(np.stack([head(person)[0] for person in group]))[:, None] / 1000
    masks = [draw_mask(PAIRS.size, 0.3, 4, np.random.default_rng(k)) for k in range(number)]
    networks = torch.from_numpy(np.stack([network(person) for person in group]))
    return volumes, torch.from_numpy(np.stack(masks))[:, None], networks


def test_embeddings_have_length_1_and_reconstructions_the_size_of_the_volume():
    pairs = made()(*inputs())
    for embeddings in (pairs.image_embeddings, pairs.network_embeddings):
        assert embeddings.shape == (5, CALM.embedding)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    assert pairs.reconstructions.shape == (5, 1, *PAIRS.size)


def test_the_reconstruction_sees_the_masked_image_only_and_the_embedding_the_whole_one():
    model, (volumes, masks, networks) = made().eval(), inputs()
    changed = torch.where(masks, volumes + 3.0, volumes)
    first, second = model(volumes, masks, networks), model(changed, masks, networks)
    torch.testing.assert_close(first.reconstructions, second.reconstructions)
    assert (first.image_embeddings - second.image_embeddings).abs().max() > 1e-4


def test_one_pass_of_image_and_masked_image_is_two_passes():
    model, (volumes, masks, _) = made().double().eval(), inputs()
    volumes = volumes.double()
    views = model.see(volumes, masks)
    alone = model.image_encoder(volumes)
    hidden = model.image_encoder(torch.where(masks, torch.zeros_like(volumes), volumes))
    torch.testing.assert_close(views.features, alone.pooled, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(views.reconstructions, model.decoder(hidden.grid), rtol=1e-10, atol=1e-12)
    assert model.see(volumes, None).reconstructions is None


def descend(config, steps=60):
    """Contrastive loss over the steps on one batch of people, whose images are nearly the same."""
    model, (volumes, _, networks) = made(config), inputs(12)
    volumes = volumes.mean(0, keepdim=True) + 0.02 * (volumes - volumes.mean(0, keepdim=True))
    optimiser, losses = torch.optim.AdamW(model.parameters(), 1e-3), []
    for _ in range(steps):
        pairs = model(volumes, None, networks)
        loss, _ = image_network_contrastive(pairs.image_embeddings, pairs.network_embeddings, model.tau)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.clamp_tau()
        losses.append(loss.item())
    return model, volumes, losses


def test_the_loss_leaves_the_logarithm_of_the_batch_where_pooled_features_start_alike():
    """And without the standardisation it does not, in the same number of steps: the trap is real."""
    _, volumes, losses = descend(CALM)
    features = made().see(volumes, None).features
    alike = torch.nn.functional.normalize(features, dim=1)
    assert (alike @ alike.T).min() > 0.9999
    assert losses[-1] < 0.5 * math.log(12)
    _, _, stuck = descend(replace(CALM, standardise=False))
    assert stuck[-1] > 0.9 * math.log(12)


def test_one_batch_is_learned_until_every_image_finds_its_network_and_back():
    model, (volumes, _, networks) = made(), inputs(7)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        pairs = model(volumes, None, networks)
        loss, _ = image_network_contrastive(pairs.image_embeddings, pairs.network_embeddings, model.tau)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    similarity = pairs.image_embeddings @ pairs.network_embeddings.T
    assert similarity.argmax(0).tolist() == similarity.argmax(1).tolist() == list(range(7))


def test_in_eval_mode_an_embedding_does_not_depend_on_who_else_is_in_the_batch():
    model, (volumes, masks, networks) = made(MODEL), inputs()
    for _ in range(3):
        model(volumes, masks, networks)  # the statistics of training are kept
    model.eval()
    whole, alone = model.embed_images(volumes), model.embed_images(volumes[2:3])
    torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-6)
    whole, alone = model.embed_networks(networks), model.embed_networks(networks[2:3])
    torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_embedded_is_refused_with_what_to_do():
    model, (volumes, _, networks) = made(), inputs()
    with pytest.raises(ValueError, match=r"batch of 1: expected at least two pairs.*larger batch, or eval mode"):
        model(volumes[:1], None, networks[:1])
    with pytest.raises(ValueError, match=r"expected a model in eval mode.*call eval\(\)"):
        model.embed_images(volumes)


def test_the_temperature_is_kept_as_its_logarithm_and_comes_back_into_its_limits():
    model = made(replace(CALM, tau=0.3, tau_limits=(0.05, 0.5)))
    assert model.tau.item() == pytest.approx(0.3)
    for moved, expected in ((-9.0, 0.05), (2.0, 0.5), (math.log(0.2), 0.2)):
        with torch.no_grad():
            model.log_tau.fill_(moved)
        model.clamp_tau()
        assert model.tau.item() == pytest.approx(expected)


def test_the_studys_matching_layer_adds_what_it_sees_of_both_and_the_product_sees_whether_they_fit():
    """Linear in v and w, the logits of (v1, w1) + (v2, w2) are those of (v1, w2) + (v2, w1), whoever fits whom."""
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, CALM.embedding)).astype(np.float32))
    v1, v2, w1, w2 = torch.nn.functional.normalize(drawn, dim=-1)
    for matching, sees in (("concatenation", False), ("product", True)):
        model = made(replace(CALM, matching=matching))
        own = model.match(v1, w1) + model.match(v2, w2)
        others = model.match(v1, w2) + model.match(v2, w1)
        assert bool((own - others).abs().max() > 1e-3) == sees


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tau": 0.001}, r"tau: expected 0 < 0.01 <= tau <= 1.0, got 0.001"),
        ({"feature_dropout": 1.0}, r"feature_dropout: expected a share below 1, got 1.0"),
        ({"embedding": 1}, r"embedding: expected at least 2, got 1"),
        ({"matching": "sum"}, r"matching: expected concatenation or product, got 'sum'"),
    ],
)
def test_settings_without_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(**changes)


def test_the_studys_model_has_768_numbers_on_both_sides():
    model = Cinp(ModelConfig())
    assert model.image_projection.linear.weight.shape == model.network_projection.linear.weight.shape == (768, 768)
    assert model.matching.weight.shape == (2, 2 * 768)
    assert REGIONS != model.config.network.regions == 116
