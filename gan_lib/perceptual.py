"""LPIPS (Zhang et al. 2018) without torchvision: how far apart two images look to a network trained on photographs.

The trunk is AlexNet's five convolutions, the linear heads come with torchmetrics, the published trunk weights from a
path or a checked download. Lower is more alike. Without weights there is no LPIPS; `untrained_distance` is none.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from urllib.request import urlopen

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gan_lib.similarity import Metric
from study_lib.files import atomic_path, sha256_of
from study_lib.shapes import Mask, Volume

Images = Float[Tensor, "image 1 height width"]
Distances = Float[Tensor, "image"]

# The name ends in the first eight digits of the file's SHA-256.
WEIGHTS_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
WEIGHTS_SHA256 = "7be5be79"
CHANNELS = (64, 192, 384, 256, 256)
CONVOLUTIONS = (0, 3, 6, 8, 10)  # their places in the published file: features.0.weight, …
SMALLEST_SIDE = 31  # of an image that leaves the fifth convolution anything to see
# Mean and spread of photographs, on LPIPS' scale from -1 to 1, for red, green and blue.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
TINY = 1e-10  # keeps features that are 0 in all channels from dividing by 0; the value is LPIPS' own
SMALLEST_SHARE = 0.05  # of the brain's area in its largest slice: smaller slices are left out


class WeightsNotAvailable(FileNotFoundError):
    """There are no trunk weights here; the message says how to get them."""


class AlexNetTrunk(nn.Module):
    """Five convolutions; gives what follows each of them, rectified."""

    def __init__(self) -> None:
        super().__init__()
        shapes = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # size, stride, padding
        inputs = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs[k], CHANNELS[k], size, stride, padding) for k, (size, stride, padding) in enumerate(shapes)
        )

    def forward(self, images: Float[Tensor, "image 3 height width"]) -> list[Tensor]:
        features = []
        for k, convolution in enumerate(self.convolutions):
            if k in (1, 2):
                images = functional.max_pool2d(images, 3, 2)
            images = functional.relu(convolution(images))
            features.append(images)
        return features


class PerceptualDistance(nn.Module):
    """The distance of images in [0, 1], one number per pair: LPIPS, where `load_lpips` made it."""

    def __init__(self, trunk: AlexNetTrunk, heads: list[Tensor]) -> None:
        super().__init__()
        self.trunk = trunk
        for k, head in enumerate(heads):
            self.register_buffer(f"head{k}", head.reshape(1, CHANNELS[k], 1, 1))
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, first: Images, second: Images) -> Distances:
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 1:
            raise ValueError(f"LPIPS: expected two stacks (image, 1, height, width), got {first.shape}, {second.shape}")
        if min(first.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"LPIPS: expected at least {SMALLEST_SIDE} pixels a side, got {tuple(first.shape[2:])}; "
                "pad the images with background"
            )
        pairs = zip(self._features(first), self._features(second), strict=True)
        distance = 0
        for k, (one, other) in enumerate(pairs):
            head = getattr(self, f"head{k}")
            distance = distance + (head * (one - other).square()).sum(1).mean((1, 2))
        return distance

    def _features(self, images: Images) -> list[Tensor]:
        """Of every layer, at unit length over the channels."""
        low, high = float(images.min()), float(images.max())
        if not (low >= -1e-5 and high <= 1 + 1e-5):
            raise ValueError(f"LPIPS: expected images in [0, 1], got values from {low:g} to {high:g}; normalise them")
        coloured = (2 * images - 1).expand(-1, 3, -1, -1)
        layers = self.trunk((coloured - self.shift) / self.scale)
        return [layer / (layer.square().sum(1, keepdim=True).sqrt() + TINY) for layer in layers]


def load_lpips(weights: str | Path) -> PerceptualDistance:
    """LPIPS with the trunk weights of a file (`find_weights` or `download_weights` give its path)."""
    trunk = AlexNetTrunk()
    load_trunk(trunk, weights)
    return PerceptualDistance(trunk, linear_heads())


def load_trunk(trunk: AlexNetTrunk, path: str | Path) -> None:
    """Fill a trunk from torchvision's AlexNet file (its classifier is not needed); a partial fill is refused."""
    if not Path(path).is_file():
        raise WeightsNotAvailable(f"weights not available: no file {path}; {_how_to_get()}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a file of plain torch weights ({error}); {_how_to_get()}") from error
    names = {f"features.{n}.{part}" for n in CONVOLUTIONS for part in ("weight", "bias")}
    if not isinstance(stored, Mapping) or not names <= set(stored):
        lacks = sorted(names - set(stored if isinstance(stored, Mapping) else ()))
        raise ValueError(f"{path}: expected torchvision's AlexNet, which has {', '.join(lacks)}; {_how_to_get()}")
    for convolution, n in zip(trunk.convolutions, CONVOLUTIONS, strict=True):
        for part in ("weight", "bias"):
            value, own = stored[f"features.{n}.{part}"], getattr(convolution, part)
            if value.shape != own.shape:
                raise ValueError(f"{path}: features.{n}.{part} is {tuple(value.shape)}, AlexNet's {tuple(own.shape)}")
            own.data.copy_(value)


def linear_heads() -> list[Tensor]:
    """The weight of every channel of every layer, as published with LPIPS 0.1, from torchmetrics' wheel."""
    folder = Path(find_spec("torchmetrics").submodule_search_locations[0])
    path = folder / "functional" / "image" / "lpips_models" / "alex.pth"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: torchmetrics no longer brings LPIPS' heads; install torchmetrics 1.9")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return [stored[f"lin{k}.model.1.weight"].flatten() for k in range(len(CHANNELS))]


def find_weights(path: str | Path = "") -> Path | None:
    """The weights that are here: the given file, else what was downloaded before, else None."""
    if path:
        if not Path(path).is_file():
            raise WeightsNotAvailable(f"weights not available: no file {path}; {_how_to_get()}")
        return Path(path)
    return cached_weights() if cached_weights().is_file() else None


def cached_weights() -> Path:
    """Where torch keeps this file too: $TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rsplit("/", 1)[-1]


def download_weights(
    path: str | Path | None = None, url: str = WEIGHTS_URL, sha256: str = WEIGHTS_SHA256, timeout_s: float = 30.0
) -> Path:
    """Fetch the trunk weights (233 MiB) unless they are there; kept only if their SHA-256 begins with `sha256`."""
    path = cached_weights() if path is None else Path(path)
    if path.is_file() and sha256_of(path).startswith(sha256):
        return path
    with atomic_path(path) as temporary:
        try:
            with urlopen(url, timeout=timeout_s) as response, open(temporary, "wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
        except OSError as error:
            raise WeightsNotAvailable(f"weights not available: {url}: {error}; {_how_to_get()}") from error
        if not (got := sha256_of(temporary)).startswith(sha256):
            raise ValueError(
                f"{url}: SHA-256 is {got}, expected {sha256}…; nothing was kept; the download was cut or changed on "
                "its way: try again, or on another line"
            )
    return path


def lpips_metric(model: PerceptualDistance, step: int = 1, batch: int = 16) -> Metric:
    """LPIPS of volumes beside the metrics of `gan_lib.similarity`: the mean over every `step`-th axial slice."""

    def of_volumes(first: Volume, second: Volume, mask: Mask) -> float:
        return mean_over_slices(model, first, second, mask, (step, batch))

    return Metric("LPIPS", "lower", "", of_volumes)


def mean_over_slices(
    distance: Callable[[Images, Images], Distances],
    first: Volume,
    second: Volume,
    mask: Mask,
    step_and_batch: tuple[int, int] = (1, 16),
) -> float:
    """The mean distance of axial slices that hold brain, both images being 0 outside the mask."""
    if not first.shape == second.shape == mask.shape or mask.ndim != 3:
        raise ValueError(f"expected volumes and a mask of one shape, got {first.shape}, {second.shape}, {mask.shape}")
    step, batch = step_and_batch
    area = mask.sum(axis=(0, 1))
    chosen = np.flatnonzero(area > SMALLEST_SHARE * area.max())[::step]
    if not len(chosen):
        raise ValueError("the mask is empty; give the voxels that are brain in both images")
    device = next(iter(distance.buffers())).device if isinstance(distance, nn.Module) else "cpu"
    stacks = (
        torch.from_numpy(np.where(mask, volume, 0).astype(np.float32)[:, :, chosen].transpose(2, 1, 0)[:, None])
        for volume in (first, second)
    )
    blocks = zip(*(stack.split(batch) for stack in stacks), strict=True)
    distances = [distance(one.to(device), other.to(device)).cpu() for one, other in blocks]
    return float(torch.cat(distances).double().mean())


def untrained_distance(seed: int = 0) -> PerceptualDistance:
    """The same distance on random features and equal heads. Not LPIPS, and never to be called so."""
    generator = torch.Generator().manual_seed(seed)
    trunk = AlexNetTrunk()
    for convolution in trunk.convolutions:
        spread = (2 / convolution.weight[0].numel()) ** 0.5
        convolution.weight.data.normal_(0, spread, generator=generator)
        convolution.bias.data.zero_()
    return PerceptualDistance(trunk, [torch.full((channels,), 1 / channels) for channels in CHANNELS])


def _how_to_get() -> str:
    return (
        f"download {WEIGHTS_URL} where there is a connection (gan_lib.perceptual.download_weights does), put it at "
        f"{cached_weights()}, or pass its path"
    )
