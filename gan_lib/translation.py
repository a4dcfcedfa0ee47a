"""Volumes through the generator, and styles out of volumes: stacks of slices in batches, one style for all of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from gan_lib.trained_model import SliceView
from study_lib.shapes import Mask, Volume

Stack = Float32[np.ndarray, "slice height width"]
StackMask = Bool[np.ndarray, "slice height width"]
Style = Float[np.ndarray, " style"]
Values = Float32[np.ndarray, " voxel"]

# A slice with too little brain for the generator gets the mean change of this many slices near it, per intensity.
NEIGHBOURS, INTENSITY_BINS = 5, 32


@contextmanager
def inference() -> Iterator[None]:
    """Without gradients, and on a GPU with the same numbers at every call."""
    flags = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
    with torch.inference_mode(), torch.backends.cudnn.flags(**flags):
        yield


def translate_stack(generator: nn.Module, stack: Stack, style: Style, batch_size: int = 16) -> Stack:
    """Every slice of a stack in one style."""
    device = device_of(generator)
    one = torch.as_tensor(np.asarray(style, dtype=np.float32), device=device)[None]
    done = []
    with inference():
        for images in _batches(stack, batch_size, device):
            translated = generator(images, one.expand(len(images), -1))
            done.append(rearrange(translated, "batch 1 height width -> batch height width").float().cpu().numpy())
    return np.concatenate(done) if done else stack.copy()


def volume_style(encoder: nn.Module, stack: Stack, site: int, batch_size: int = 16) -> Style:
    """One style of a volume: the mean of its slices' (give those that hold enough brain), read as images of `site`."""
    if not len(stack):
        raise ValueError("volume_style: no slice holds enough brain to have a style; check the mask and the voxel size")
    device, total = device_of(encoder), 0.0
    with inference():
        for images in _batches(stack, batch_size, device):
            sites = torch.full((len(images),), site, dtype=torch.int64, device=device)
            total = total + encoder(images, sites).double().sum(dim=0)
    return (total / len(stack)).float().cpu().numpy()


def translate_volume(
    generator: nn.Module, volume: Volume, mask: Mask, view: SliceView, style: Style, batch_size: int = 16
) -> Volume:
    """A volume on the grid of the view's box, in one style; unbounded as the generator is, and 0 outside the mask.

    Slices with fewer brain voxels than the generator was trained on (the caps of the brain) do not pass through it,
    for its instance statistics would be those of the background: they change as slices near them do.
    """
    stack, masks = view.box.crop(np.where(mask, volume, 0)), view.box.crop(mask)
    full = full_slices(masks, view.least_brain)
    translated = stack.copy()
    translated[full] = translate_stack(generator, stack[full], style, batch_size)
    for index in np.flatnonzero(masks.any(axis=(1, 2)) & ~full):
        near = nearest_slices(full, index)
        inside = masks[index]
        change = mean_change(stack[near], translated[near], masks[near], stack[index][inside])
        translated[index][inside] += change
    return view.box.paste(np.where(masks, translated, 0))


def full_slices(masks: StackMask, least_brain: int) -> Bool[np.ndarray, " slice"]:
    """Which slices hold enough brain for the networks; none at all is refused."""
    full = masks.sum(axis=(1, 2)) >= max(1, least_brain)
    if not full.any():
        raise ValueError(
            f"no slice holds the {least_brain} voxels of brain that the networks were trained on (most: "
            f"{masks.sum(axis=(1, 2)).max(initial=0)}); check the mask, and that the affine is in millimetres"
        )
    return full


def nearest_slices(full: Bool[np.ndarray, " slice"], index: int) -> np.ndarray:
    """The full slices closest to one."""
    candidates = np.flatnonzero(full)
    return candidates[np.argsort(np.abs(candidates - index), kind="stable")[:NEIGHBOURS]]


def mean_change(before: Stack, after: Stack, masks: StackMask, values: Values) -> Values:
    """By how much voxels as bright as `values` change on average from `before` to `after`."""
    source, change = before[masks], (after - before)[masks]
    bins = np.clip((source * INTENSITY_BINS).astype(int), 0, INTENSITY_BINS - 1)
    count = np.bincount(bins, minlength=INTENSITY_BINS)
    found = count > 0
    middle, mean = (np.bincount(bins, weights, INTENSITY_BINS)[found] / count[found] for weights in (source, change))
    return np.interp(values, middle, mean).astype(np.float32)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights lie."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def _batches(stack: Stack, batch_size: int, device: torch.device) -> Iterator[Float32[Tensor, "batch 1 height width"]]:
    for start in range(0, len(stack), batch_size):
        images = torch.as_tensor(np.ascontiguousarray(stack[start : start + batch_size], dtype=np.float32))
        yield rearrange(images, "batch height width -> batch 1 height width").to(device)
