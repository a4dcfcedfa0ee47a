"""The pre-training losses beside loops over single pairs and voxels."""

import math

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from cinp_lib import losses
from cinp_lib.losses import (
    LossWeights,
    image_network_contrastive,
    image_network_matching,
    masked_image_modelling,
    matching_negatives,
    siglip,
    total,
)


def embeddings(number=7, feature=5, seed=0, dtype=torch.float64):
    """Unit vectors of both kinds."""
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, number, feature))).to(dtype)
    return torch.nn.functional.normalize(drawn, dim=-1).unbind()


def naive_cross_entropy(scores, own):
    """-log of the softmax at one place, by hand."""
    return -math.log(math.exp(scores[own]) / sum(math.exp(score) for score in scores))


def naive_contrastive(images, networks, tau):
    number = len(images)
    s = [[sum(a * b for a, b in zip(v, w, strict=True)) / tau for w in networks] for v in images]
    to_network = [naive_cross_entropy(s[k], k) for k in range(number)]
    to_image = [naive_cross_entropy([s[j][k] for j in range(number)], k) for k in range(number)]
    return sum(to_network) / number, sum(to_image) / number


@pytest.mark.parametrize(("number", "feature", "tau"), [(2, 3, 1.0), (7, 5, 0.07), (11, 1, 0.5)])
def test_contrastive_loss_is_the_studys_formula(number, feature, tau):
    images, networks = embeddings(number, feature)
    to_network, to_image = naive_contrastive(images.tolist(), networks.tolist(), tau)
    loss, parts = image_network_contrastive(images, networks, tau)
    assert float(loss) == pytest.approx((to_network + to_image) / 2, rel=1e-9)
    assert float(parts["contrastive_to_network"]) == pytest.approx(to_network, rel=1e-9)
    assert float(parts["contrastive_to_image"]) == pytest.approx(to_image, rel=1e-9)
    assert float(parts["contrastive"]) == float(loss) and not parts["contrastive"].requires_grad


def test_contrastive_loss_of_embeddings_that_are_all_alike_is_the_logarithm_of_their_number():
    alike = torch.ones(9, 4) / 2
    assert float(image_network_contrastive(alike, alike, 0.1)[0]) == pytest.approx(math.log(9), rel=1e-6)


def test_contrastive_loss_does_not_change_with_the_order_of_pairs_or_the_exchange_of_sides():
    images, networks = embeddings()
    order = torch.from_numpy(np.random.default_rng(1).permutation(7))
    expected = float(image_network_contrastive(images, networks, 0.2)[0])
    assert float(image_network_contrastive(images[order], networks[order], 0.2)[0]) == pytest.approx(expected)
    assert float(image_network_contrastive(networks, images, 0.2)[0]) == pytest.approx(expected)
    assert float(image_network_contrastive(images, networks[order], 0.2)[0]) != pytest.approx(expected)


def test_temperature_is_tau_itself_and_has_the_gradient_of_the_formula():
    images, networks = embeddings()
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    image_network_contrastive(images, networks, tau)[0].backward()
    step = 1e-5
    higher, lower = (sum(naive_contrastive(images.tolist(), networks.tolist(), 0.3 + s)) / 2 for s in (step, -step))
    assert float(tau.grad) == pytest.approx((higher - lower) / (2 * step), rel=1e-6)


def test_contrastive_loss_is_computed_in_float32_under_autocast():
    images, networks = embeddings(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = siglip(images, networks, 0.1, -1.0)
        other, _ = image_network_contrastive(images.bfloat16(), networks, 0.1)
    assert loss.dtype == other.dtype == torch.float32
    expected = image_network_contrastive(images.bfloat16().float(), networks, 0.1)[0]
    assert float(other) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("loss", [image_network_contrastive, lambda v, w, tau: siglip(v, w, tau, 0.0)])
def test_embeddings_that_cannot_be_compared_are_refused_with_what_to_do(loss):
    images, networks = embeddings()
    with pytest.raises(ValueError, match=r"at least two pairs, got 1: .* larger batch"):
        loss(images[:1], networks[:1], 0.1)
    with pytest.raises(ValueError, match=r"as many images as networks.*\(7, 5\) and \(6, 5\)"):
        loss(images, networks[:6], 0.1)
    with pytest.raises(ValueError, match=r"embeddings of one size; got shapes \(7, 5\) and \(7, 4\)"):
        loss(images, networks[:, :4], 0.1)
    with pytest.raises(ValueError, match=r"temperature above 0, got -2\.3.*not its logarithm"):
        loss(images, networks, -2.3)
    broken = networks.clone()
    broken[3, 1] = math.nan
    with pytest.raises(ValueError, match=r"finite network embeddings, got NaN or infinity in rows \[3\]"):
        loss(images, broken, 0.1)


def test_siglip_is_the_mean_over_images_of_every_pair_by_itself():
    images, networks = embeddings(5, 3)
    expected = 0.0
    for i, v in enumerate(images.tolist()):
        for j, w in enumerate(networks.tolist()):
            logit = sum(a * b for a, b in zip(v, w, strict=True)) / 0.2 - 1.5
            expected -= math.log(1 / (1 + math.exp(-logit if i == j else logit))) / 5
    assert float(siglip(images, networks, 0.2, -1.5)[0]) == pytest.approx(expected, rel=1e-9)


def volumes(number=3, size=(3, 5, 2), seed=0):
    drawn = np.random.default_rng(seed).standard_normal((2, number, 1, *size))
    masks = torch.from_numpy(np.random.default_rng(seed + 1).random((number, 1, *size)) < 0.4)
    return *torch.from_numpy(drawn).unbind(), masks


@pytest.mark.parametrize("over", ["volume", "masked"])
def test_reconstruction_loss_is_the_mean_absolute_difference_of_each_volume(over):
    images, made, masks = volumes()
    expected = []
    for k in range(3):
        differences = [
            abs(float(a) - float(b))
            for a, b, hidden in zip(images[k].ravel(), made[k].ravel(), masks[k].ravel(), strict=True)
            if hidden or over == "volume"
        ]
        expected.append(sum(differences) / len(differences))
    loss, parts = masked_image_modelling(images, made, masks, over)
    assert float(loss) == pytest.approx(sum(expected) / 3, rel=1e-9) == float(parts["reconstruction"])


def test_the_whole_volume_is_the_default_and_needs_no_mask():
    images, made, masks = volumes()
    assert float(masked_image_modelling(images, made)[0]) == float(masked_image_modelling(images, made, masks)[0])


def test_reconstructions_that_do_not_fit_are_refused():
    images, made, masks = volumes()
    with pytest.raises(ValueError, match=r"one shape.*got \(3, 1, 3, 5, 2\) and \(2, 1, 3, 5, 2\)"):
        masked_image_modelling(images, made[:2])
    with pytest.raises(ValueError, match="over=volume or masked, got 'brain'"):
        masked_image_modelling(images, made, masks, "brain")
    with pytest.raises(ValueError, match=r"expected masks of shape .* got none"):
        masked_image_modelling(images, made, over="masked")
    masks[1] = False
    with pytest.raises(ValueError, match=r"masked voxel in every volume, got none in \[1\]"):
        masked_image_modelling(images, made, masks, "masked")


def test_matching_loss_is_the_cross_entropy_of_two_logits():
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 2)))
    matches = torch.tensor([True, False, False, True, False])
    expected = sum(naive_cross_entropy(row, int(same)) for row, same in zip(logits.tolist(), matches, strict=True)) / 5
    right = sum((row[1] > row[0]) == bool(same) for row, same in zip(logits.tolist(), matches, strict=True)) / 5
    loss, parts = image_network_matching(logits, matches)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert float(parts["matching_accuracy"]) == right
    with pytest.raises(ValueError, match=r"two logits and one truth.*\(5, 2\) and \(4,\)"):
        image_network_matching(logits, matches[:4])


def test_hard_negatives_come_as_often_as_the_softmax_over_strangers_says():
    similarity = np.random.default_rng(0).normal(size=(5, 5))
    families = np.array([0, 1, 1, 2, 3])
    rng, counts, draws = np.random.default_rng(1), np.zeros((2, 5, 5)), 4000
    for _ in range(draws):
        for side, chosen in enumerate(matching_negatives(similarity, rng, "hard", families)):
            counts[side, np.arange(5), chosen] += 1
    for side, scores in enumerate((similarity, similarity.T)):
        for own in range(5):
            weights = [math.exp(scores[own, k]) if families[k] != families[own] else 0.0 for k in range(5)]
            expected = np.array(weights) / sum(weights)
            assert counts[side, own] / draws == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(draws))


@pytest.mark.parametrize("rule", ["hard", "next"])
def test_a_negative_is_never_the_own_pair_nor_a_sibling(rule):
    families = np.array([4, 4, 7, 7, 7, 2])
    for seed in range(50):
        similarity = 20 * np.random.default_rng(seed).normal(size=(6, 6)) + 50 * np.eye(6)
        for chosen in matching_negatives(similarity, np.random.default_rng(seed), rule, families):
            assert (families[chosen] != families).all()


def test_the_next_stranger_is_the_first_one_behind():
    chosen, _ = matching_negatives(np.zeros((6, 6)), np.random.default_rng(0), "next", np.array([4, 4, 7, 7, 7, 2]))
    assert chosen.tolist() == [2, 2, 5, 5, 5, 0]


def test_negatives_are_the_same_for_the_same_generator():
    similarity = np.random.default_rng(0).normal(size=(9, 9))
    first, second = (matching_negatives(similarity, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_negatives_need_strangers_and_a_known_rule():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="two families or more, got 1"):
        matching_negatives(np.zeros((2, 2)), rng, families=np.array([1, 1]))
    with pytest.raises(ValueError, match="rule hard or next, got 'easy'"):
        matching_negatives(np.zeros((2, 2)), rng, "easy")
    with pytest.raises(ValueError, match="as many images as networks"):
        matching_negatives(np.zeros((2, 3)), rng)


def test_the_total_is_the_weighted_sum_and_names_what_is_missing():
    found = {"contrastive": torch.tensor(2.0), "reconstruction": torch.tensor(0.3), "matching": torch.tensor(0.7)}
    loss, parts = total(found, LossWeights())
    assert float(loss) == pytest.approx(3.0) == float(parts["total"])
    assert float(total(found, LossWeights(1.0, 0.5, 0.0))[0]) == pytest.approx(2.15)
    assert float(total({"contrastive": found["contrastive"]}, LossWeights(1.0, 0.0, 0.0))[0]) == 2.0
    with pytest.raises(KeyError, match="missing: matching, reconstruction"):
        total({"contrastive": found["contrastive"]}, LossWeights())
    with pytest.raises(KeyError, match="not known: style"):
        total(found | {"style": found["matching"]}, LossWeights())
    with pytest.raises(ValueError, match=r"LossWeights.matching: expected a number from 0 on, got -1"):
        LossWeights(matching=-1)
    with pytest.raises(ValueError, match="at least one weight above 0"):
        LossWeights(0.0, 0.0, 0.0)


def test_shapes_are_those_of_the_annotations():
    checked = jaxtyped(typechecker=beartype)
    images, networks = embeddings()
    checked(losses.image_network_contrastive)(images, networks, 0.1)
    checked(losses.masked_image_modelling)(*volumes())
    checked(losses.image_network_matching)(torch.zeros(3, 2), torch.ones(3, dtype=torch.bool))
    checked(losses.matching_negatives)(np.zeros((3, 3)), np.random.default_rng(0), "hard", np.arange(3))
