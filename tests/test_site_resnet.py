"""ResNet-50 as torchvision has it, and its ImageNet weights: all of them, or none."""

import pytest
import torch
from torch.nn import functional

from gan_lib.site_classifier.resnet import load_imagenet_weights, resnet50


@pytest.fixture(scope="module")
def colour_weights():
    """A file as torchvision's: three input channels, 1000 classes."""
    network = resnet50(1000, seed=5)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    stem = torch.randn(64, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    return state | {"conv1.weight": stem}


def test_it_is_the_network_of_torchvision_tensor_by_tensor():
    with torch.device("meta"):
        state = resnet50(1000).state_dict()
    assert sum(v.numel() for k, v in state.items() if k.endswith((".weight", ".bias"))) == 25_557_032 - 2 * 64 * 49
    assert tuple(state["layer4.0.downsample.0.weight"].shape) == (2048, 1024, 1, 1)
    assert "layer1.0.downsample.0.bias" not in state and len(state) == 320


def test_imagenet_weights_fill_all_but_the_last_layer_and_the_stem_is_summed(colour_weights, tmp_path):
    torch.save(colour_weights, tmp_path / "resnet50.pth")
    network = resnet50(4)
    assert load_imagenet_weights(network, tmp_path / "resnet50.pth") == 318
    grey = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    by_colour = functional.conv2d(grey.expand(1, 3, -1, -1), colour_weights["conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(network.conv1(grey), by_colour, rtol=1e-4, atol=1e-4)
    assert torch.equal(network.layer4[2].conv3.weight, colour_weights["layer4.2.conv3.weight"])
    assert not network.fc.weight.any()
    two = resnet50(4, channels=2)
    load_imagenet_weights(two, tmp_path / "resnet50.pth")
    assert torch.equal(two.conv1.weight[:, :1], network.conv1.weight) and not two.conv1.weight[:, 1].any()


def test_partial_and_foreign_weights_are_refused_by_name_and_number(colour_weights, tmp_path):
    path, network = tmp_path / "weights.pth", resnet50(4)
    before = network.layer1[0].conv1.weight.clone()
    partial = {k: v for k, v in colour_weights.items() if not k.startswith("layer4.2.conv")}
    torch.save(partial | {"head.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"3 \(layer4.2.conv1.weight, .*\) missing, 1 \(head.weight\) not of it"):
        load_imagenet_weights(network, path)
    torch.save(colour_weights | {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"1 \(layer1.0.conv1.weight\) of another shape. Nothing was loaded"):
        load_imagenet_weights(network, path)
    assert torch.equal(network.layer1[0].conv1.weight, before)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a file of plain torch weights"):
        load_imagenet_weights(network, path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_imagenet_weights(network, tmp_path / "absent.pth")
