"""ResNet-50 for slices: MONAI's, which is torchvision's layer for layer."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

STEM, HEAD = "conv1.weight", "fc"


def resnet50(classes: int, seed: int = 0, channels: int = 1) -> nn.Module:
    """He-initialised from a seed; every block begins as the identity (Goyal et al. 2017), and the last layer at 0."""
    from monai.networks.nets import resnet50 as build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(
            spatial_dims=2,
            n_input_channels=channels,
            num_classes=classes,
            shortcut_type="B",
            conv1_t_stride=2,
            conv1_t_size=7,
            bias_downsample=False,
        )
    for module in network.modules():
        if hasattr(module, "bn3"):
            nn.init.zeros_(module.bn3.weight)
    nn.init.zeros_(network.fc.weight)
    return network


def load_imagenet_weights(network: nn.Module, path: str | Path) -> int:
    """Fill all but the last layer from torchvision's ResNet-50 file; a partial fill is refused. Gives how many tensors.

    The stem of a grey image is the sum of the stems for red, green and blue; further channels begin at 0.
    """
    stored = _read(path)
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(HEAD)}
    # files from before PyTorch 0.4.1 have no count of batches
    given = {name: value for name, value in stored.items() if not name.startswith(HEAD)}
    given |= {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in given}
    if STEM in given and given[STEM].ndim == 4 and given[STEM].shape[1] == 3:
        further = own[STEM].shape[1] - 1
        given[STEM] = functional.pad(given[STEM].sum(dim=1, keepdim=True), (0, 0, 0, 0, 0, further))
    lacking, foreign = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    unlike = sorted(name for name in set(own) & set(given) if own[name].shape != given[name].shape)
    if lacking or foreign or unlike:
        raise ValueError(
            f"{path}: expected torchvision's ResNet-50, which has {len(own)} tensors before its last layer; "
            f"{_some(lacking)} missing, {_some(foreign)} not of it, {_some(unlike)} of another shape. "
            "Nothing was loaded"
        )
    network.load_state_dict(given, strict=False)
    return len(own)


def _read(path: str | Path) -> dict[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of torchvision's resnet50-….pth, or none at all")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a file of plain torch weights ({error}); fetch it again") from error
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ValueError(f"{path}: expected tensors by name, got {type(stored).__name__}; give torchvision's own file")
    return dict(stored)


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "0"
