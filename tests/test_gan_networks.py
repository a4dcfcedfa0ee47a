"""The four networks: sizes as published, every saving exact, each image read by its own site's branch."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from small_gan import NETWORKS, SIZE, noise
from torch import nn
from torch.nn import functional

from benchmarks.plain_gan import PlainNetworks
from gan_lib import networks as module
from gan_lib.layers import EncoderBlock, SiteLinear, StyledBlock, conv_then_halve, double_then_conv, normalise
from gan_lib.networks import (
    Discriminator,
    Generator,
    MappingNetwork,
    NetworkConfig,
    StyleEncoder,
    count_parameters,
)
from gan_lib.train_step import Networks

EXACT = {"rtol": 0, "atol": 1e-12}
SITES = torch.tensor([0, 2, 1, 1, 0])


def double(*shape, seed=0):
    return noise(*shape, seed=seed, dtype=torch.float64)


def shaken(network, seed=0):
    """All weights, also those that begin at 0 or 1, moved a little, in float64."""
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight += 0.3 * noise(*weight.shape, seed=seed + number)
    return network.to(torch.float64)


@pytest.fixture(scope="module")
def images():
    return double(len(SITES), 1, *SIZE, seed=9).abs()


def test_position_counts_from_the_middle_so_that_padding_moves_nobody():
    small, large = (module.with_position(torch.zeros(2, 1, *size)) for size in ((6, 9), (10, 13)))
    assert small.shape == (2, 3, 6, 9) and torch.equal(small, large[:, :, 2:-2, 2:-2])
    rows, columns = small[1, 1], small[1, 2]
    assert torch.equal(rows[:, 0], (torch.arange(6) - 2.5) / 64) and (rows == rows[:, :1]).all()
    assert torch.equal(columns[0], (torch.arange(9) - 4.0) / 64) and (columns == columns[:1]).all()


def test_with_position_a_generator_tells_the_middle_of_an_even_image_apart():
    """Nothing but the place tells its pixels apart, and a little what padding at the borders lets through."""
    even = torch.full((1, 1, 64, 64), 0.5)
    styles = noise(1, NETWORKS.style)
    spread = {}
    for position in (False, True):
        torch.manual_seed(0)
        with torch.no_grad():
            out = Generator(replace(NETWORKS, size=(64, 64), position=position))(even, styles)
        spread[position] = float(out[0, 0, 28:36:4, 28:36:4].std())
    assert spread[True] > 4 * spread[False]


def test_the_faithful_networks_have_the_published_numbers_of_parameters():
    kinds = (Generator, MappingNetwork, StyleEncoder, Discriminator)
    counts = [count_parameters(kind(NetworkConfig())) for kind in kinds]  # one after the other: 0.3 GB together
    assert counts == [33_891_713, 4_079_872, 20_981_440, 20_852_164]


def test_the_faithful_generator_goes_down_to_16_pixels_and_the_others_to_4():
    config = NetworkConfig()
    assert (256 >> config.generator_levels, 256 >> config.encoder_levels) == (16, 4)


def works(size):
    """Whether halving both sides as often as the shorter one is halved down to 4..7 leaves whole numbers."""
    times = 0
    while min(size) >> times > 7:
        times += 1
    return min(size) >= 16 and all(n % 2**times == 0 for n in size)


@pytest.mark.parametrize("size", [(16, 16), (17, 90), (31, 33), (80, 96), (91, 109), (97, 127), (200, 129), (5, 300)])
def test_the_padded_size_works_and_no_smaller_one_does(size):
    height, width = NetworkConfig.padded(size)
    assert works((height, width)) and height >= size[0] and width >= size[1]
    smaller = itertools.product(range(max(16, size[0]), height + 1), range(max(16, size[1]), width + 1))
    assert [s for s in smaller if works(s) and s != (height, width)] == []


@pytest.mark.parametrize("size", [(16, 17), (15, 16), (92, 96), (8, 8), (91, 109)])
def test_a_size_that_cannot_work_is_refused_with_one_that_does(size):
    with pytest.raises(ValueError, match="cannot be halved") as caught:
        NetworkConfig(size=size)
    works_instead = NetworkConfig.padded(size)
    assert str(works_instead) in str(caught.value)
    assert NetworkConfig(size=works_instead).size == works_instead


def test_sizes_without_sense_are_refused():
    for name in ("sites", "channels", "width", "cap", "latent", "style", "hidden"):
        with pytest.raises(ValueError, match=rf"NetworkConfig.{name}: expected at least 1, got 0"):
            NetworkConfig(**{name: 0})
    with pytest.raises(ValueError, match="height, width"):
        NetworkConfig(size=(16, 16, 16))


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (40, 32), (64, 80)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_workable_size_and_number_of_channels_goes_through_all_four(size, channels):
    config = NetworkConfig(size=size, channels=channels, sites=2, width=2, cap=4, latent=3, style=5, hidden=4)
    nets, site = Networks(config), torch.tensor([1, 0, 1])
    slices = noise(3, channels, *size)
    styles = nets.mapping(noise(3, 3), site)
    assert styles.shape == nets.encoder(slices, site).shape == (3, 5)
    assert nets.generator(slices, styles).shape == slices.shape
    assert nets.discriminator(slices, site).shape == (3,)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (5, 4)])
def test_convolving_and_halving_in_one_is_convolving_then_pooling(size):
    images, weight, bias = double(2, 3, *size), double(5, 3, 3, 3, seed=1), double(5, seed=2)
    plain = functional.avg_pool2d(functional.conv2d(images, weight, bias, padding=1), 2)
    torch.testing.assert_close(conv_then_halve(images, weight, bias), plain, **EXACT)


@pytest.mark.parametrize("size", [(4, 3), (1, 5)])
def test_doubling_and_convolving_in_one_is_upsampling_then_convolving(size):
    images, weight, bias = double(2, 3, *size), double(5, 3, 3, 3, seed=1), double(5, seed=2)
    plain = functional.conv2d(functional.interpolate(images, scale_factor=2), weight, bias, padding=1)
    torch.testing.assert_close(double_then_conv(images, weight, bias), plain, **EXACT)


def test_gradients_of_both_are_those_of_the_plain_order():
    images, weight, bias = (t.requires_grad_() for t in (double(2, 3, 6, 4), double(5, 3, 3, 3, seed=1), double(5)))

    def gradients(result):
        return torch.autograd.grad((result * double(*result.shape, seed=7)).sum(), (images, weight, bias))

    plain = functional.avg_pool2d(functional.conv2d(images, weight, bias, padding=1), 2)
    for one, other in zip(gradients(conv_then_halve(images, weight, bias)), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    plain = functional.conv2d(functional.interpolate(images, scale_factor=2), weight, bias, padding=1)
    for one, other in zip(gradients(double_then_conv(images, weight, bias)), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("outputs", [3, 5])
@pytest.mark.parametrize("halve", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_an_encoder_block_is_the_published_one(outputs, halve, normalised):
    block = shaken(EncoderBlock(3, outputs, normalised, halve))
    images = double(2, 3, 6, 8)

    def norm(hidden, layer):
        if not normalised:
            return hidden
        return functional.instance_norm(hidden, weight=layer.weight, bias=layer.bias)

    def pool(hidden):
        return functional.avg_pool2d(hidden, 2) if halve else hidden

    hidden = pool(block.first(functional.leaky_relu(norm(images, block.norm1), 0.2)))
    hidden = block.second(functional.leaky_relu(norm(hidden, block.norm2), 0.2))
    assert isinstance(block.shortcut, nn.Conv2d) == (outputs != 3)  # learned only where channels change
    torch.testing.assert_close(block(images), (hidden + pool(block.shortcut(images))) / math.sqrt(2), **EXACT)


@pytest.mark.parametrize("outputs", [4, 3])
@pytest.mark.parametrize("up", [True, False])
def test_an_adain_block_is_the_published_one(outputs, up):
    block = shaken(StyledBlock(4, outputs, 6, up))
    images, styles = double(2, 4, 5, 3), double(2, 6, seed=3)

    def adain(hidden, layer):
        gamma, beta = layer.affine(styles).split(hidden.shape[1], dim=1)
        return (1 + gamma[..., None, None]) * functional.instance_norm(hidden) + beta[..., None, None]

    def upsample(hidden):
        return functional.interpolate(hidden, scale_factor=2, mode="nearest") if up else hidden

    hidden = block.first(upsample(functional.leaky_relu(adain(images, block.norm1), 0.2)))
    hidden = block.second(functional.leaky_relu(adain(hidden, block.norm2), 0.2))
    expected = (hidden + block.shortcut(upsample(images))) / math.sqrt(2)
    torch.testing.assert_close(block(images, styles), expected, **EXACT)


@pytest.mark.parametrize("per_image", [True, False])
def test_normalisation_is_that_of_a_loop_over_images_and_channels(per_image):
    images, rows = 3 + 2 * double(3, 2, 4, 5), 3 if per_image else 1
    scale, shift = double(rows, 2, seed=1), double(rows, 2, seed=2)
    expected = torch.empty_like(images)
    for i, j in itertools.product(range(3), range(2)):
        values = images[i, j]
        mean = sum(values.flatten().tolist()) / 20
        variance = sum((v - mean) ** 2 for v in values.flatten().tolist()) / 20
        row = i if per_image else 0
        expected[i, j] = scale[row, j] * (values - mean) / math.sqrt(variance + 1e-5) + shift[row, j]
    torch.testing.assert_close(normalise(images, scale, shift), expected, **EXACT)


def test_a_linear_layer_per_site_is_a_loop_over_images():
    layer = shaken(SiteLinear(4, 3, 3))
    features = double(5, 4)
    expected = [layer.weight[site] @ x + layer.bias[site] for x, site in zip(features, SITES, strict=True)]
    torch.testing.assert_close(layer(features, SITES), torch.stack(expected), **EXACT)


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"position": True}])
@pytest.mark.parametrize("narrow", [{}, {"discriminator_width": 3, "discriminator_cap": 5}])
def test_the_networks_are_those_of_the_plain_restatement(images, options, narrow):
    config = NetworkConfig(**{**vars(NETWORKS), **options, **narrow})
    ours, plain = shaken(Networks(config)), PlainNetworks(config).to(torch.float64)
    plain.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    styles = ours.mapping(double(5, 4, seed=4), SITES)
    torch.testing.assert_close(styles, plain.mapping(double(5, 4, seed=4), SITES), **EXACT)
    torch.testing.assert_close(ours.encoder(images, SITES), plain.encoder(images, SITES), **EXACT)
    torch.testing.assert_close(ours.discriminator(images, SITES), plain.discriminator(images, SITES), **EXACT)
    torch.testing.assert_close(ours.generator(images, styles), plain.generator(images, styles), **EXACT)


@pytest.mark.parametrize("size", [(16, 24), (48, 32), (32, 32)])
def test_the_logit_is_that_of_the_image_s_own_site(size):
    """Also where the trunk ends at more than 4 x 4: whose row is read must not depend on what is left of the image."""
    config = NetworkConfig(**{**vars(NETWORKS), "size": size})
    discriminator, slices = shaken(Discriminator(config)), double(5, 1, *size)
    before = discriminator(slices, SITES)
    with torch.no_grad():
        discriminator.branches.bias[1] += 10
    change = discriminator(slices, SITES) - before
    torch.testing.assert_close(change[:, None], 10.0 * (SITES == 1).double()[:, None], **EXACT)


def test_a_site_s_branches_learn_from_its_own_images_alone(images):
    nets = shaken(Networks(NETWORKS))
    only = torch.full_like(SITES, 2)
    (nets.encoder(images, only).sum() + nets.discriminator(images, only).sum()).backward()
    nets.mapping(double(5, 4), only).sum().backward()
    layers = [layer for layer in nets.modules() if isinstance(layer, SiteLinear)]
    assert len(layers) == 6
    for layer in layers:
        moved = layer.weight.grad.abs().sum(dim=(1, 2)) > 0
        assert moved.tolist() == [False, False, True]


def test_a_site_that_was_not_trained_has_no_branch(images):
    nets = Networks(NETWORKS)
    for network in (nets.encoder, nets.discriminator):
        with pytest.raises(IndexError):
            network(images.float(), torch.tensor([0, 1, 2, 3, 0]))


def test_images_of_a_batch_do_not_see_one_another(images):
    nets = shaken(Networks(NETWORKS))
    styles = double(5, 6, seed=5)
    alone = torch.cat([nets.generator(images[k : k + 1], styles[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(nets.generator(images, styles), alone, **EXACT)
    alone = torch.cat([nets.discriminator(images[k : k + 1], SITES[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(nets.discriminator(images, SITES), alone, **EXACT)


def test_the_memory_layout_changes_nothing(images):
    nets, styles = shaken(Networks(NETWORKS)), double(5, 6, seed=5)
    plain = nets.generator(images, styles), nets.discriminator(images, SITES)
    nets = nets.to(memory_format=torch.channels_last)
    last = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(nets.generator(last, styles), plain[0], **EXACT)
    torch.testing.assert_close(nets.discriminator(last, SITES), plain[1], **EXACT)


def test_the_residual_generator_adds_its_input(images):
    config = NetworkConfig(**{**vars(NETWORKS), "residual": True})
    generator = Generator(config).double()
    nn.init.zeros_(generator.head.weight)
    assert torch.equal(generator(images, double(5, 6)), images)


def test_weights_begin_as_he_says_and_norms_as_the_identity():
    torch.manual_seed(0)
    nets = Networks(NetworkConfig(size=(16, 16), sites=3, width=32, cap=64, hidden=64))
    for layer in nets.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | SiteLinear):
            fan_in = layer.weight[0, 0].numel() * (1 if isinstance(layer, SiteLinear) else layer.weight.shape[1])
            if layer.weight.numel() > 2000:
                assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.06)
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, module.InstanceNorm):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)) and not layer.bias.any()


def test_in_bfloat16_the_networks_give_nearly_the_same(images):
    torch.manual_seed(0)
    nets, slices = Networks(NETWORKS), images.float()
    styles = nets.mapping(noise(5, 4), SITES)
    exact = nets.generator(slices, styles), nets.encoder(slices, SITES), nets.discriminator(slices, SITES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = nets.generator(slices, styles), nets.encoder(slices, SITES), nets.discriminator(slices, SITES)
    for one, other in zip(exact, coarse, strict=True):
        assert (one - other.float()).norm() < 0.05 * one.norm()


def test_shapes_are_checked_where_a_checker_looks():
    checked = jaxtyped(typechecker=beartype)(SiteLinear.forward)
    layer = SiteLinear(4, 3, 3)
    assert checked(layer, noise(5, 4), SITES).shape == (5, 3)
    with pytest.raises(TypeCheckError):
        checked(layer, noise(4, 4), SITES)
