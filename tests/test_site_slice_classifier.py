"""What the attacker is shown: the slice, and its fine detail."""

import numpy as np
import torch
from site_slices import site_slices

from gan_lib.site_classifier.explanation import attention, middle_slices
from gan_lib.site_classifier.planting import Mark
from gan_lib.site_classifier.slice_classifier import GAIN, SliceClassifier, fine_detail


def disc(value=0.5, size=48):
    across = np.arange(size) - size / 2
    return torch.tensor(np.where(np.add.outer(across**2, across**2) < 400, value, 0.0), dtype=torch.float32)[None, None]


def test_detail_is_what_a_naive_loop_finds_and_edge_frame_and_background_have_none():
    slices = disc() * (1 + 0.1 * torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0)))
    slices = slices[..., 10:]  # the brain goes past the frame
    slices[0, 0, 20, 10] = 0.0  # a voxel as dark as the background
    padded, found = torch.nn.functional.pad(slices, (2, 2, 2, 2)), fine_detail(slices)[0, 0]
    for row, column in np.ndindex(*found.shape):
        brain = [value for value in padded[0, 0, row : row + 5, column : column + 5].flatten().tolist() if value]
        value, wanted = slices[0, 0, row, column].item(), 0.0
        if value and len(brain) >= 20:
            wanted = GAIN * (value - np.mean(brain))
        assert abs(found[row, column] - wanted) < 1e-5
    assert found[20, 11] != 0


def test_a_faint_mark_is_most_of_the_detail_though_it_is_little_of_the_slice():
    slices = disc()
    marked = torch.tensor(Mark(amplitude=0.02).on(slices[0].numpy()))[None]
    assert marked.std() / slices.std() - 1 < 0.01
    assert fine_detail(slices).abs().max() < 1e-4 and fine_detail(marked).std() > 0.05


def test_without_detail_it_is_the_plain_resnet():
    network = SliceClassifier(3, detail=False).eval()
    assert torch.equal(network(disc()), network.resnet(disc()))


def test_both_channels_reach_the_logits():
    network = SliceClassifier(3).eval()
    torch.nn.init.normal_(network.resnet.fc.weight)
    slices = disc().expand(2, -1, -1, -1)
    whole = network(slices)
    with torch.no_grad():
        network.resnet.conv1.weight[:, 1] += 1.0
    assert whole.shape == (2, 3) and torch.allclose(whole, network(slices), atol=1e-5), "a disc has no detail"
    grainy = slices * (1 + 0.1 * torch.rand(slices.shape, generator=torch.Generator().manual_seed(0)))
    now = network(grainy)
    with torch.no_grad():
        network.resnet.conv1.weight[:, 1] -= 1.0
    assert not torch.allclose(now, network(grainy), atol=1e-3)


def test_where_it_looks_can_be_asked_with_and_without_detail():
    slices = site_slices(names=("Alpha", "Beta"), per_subject=3)
    for detail in (True, False):
        network = SliceClassifier(2, detail=detail)
        torch.nn.init.normal_(network.resnet.fc.weight)
        maps = attention(network, middle_slices(slices))
        assert maps.shape[1:] == slices.images.shape[1:] and np.isfinite(maps).all()
