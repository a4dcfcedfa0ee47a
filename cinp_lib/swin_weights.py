"""The published weights of Tang et al.'s Swin transformer (`model_swinvit.pt`), read whole or not at all.

Its names carry `module.` in front and `fc1`, `fc2` for MONAI's `linear1`, `linear2`; a last norm and the heads of its
own pre-training come along and are left. Its patch merging took two octants twice: encoders of another order are
refused, as they would take the weights in silence and compute other features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from cinp_lib.swin import SwinTransformer
from study_lib.files import sha256_of

URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/model_swinvit.pt"
PREFIX = "module."
RENAMED = {".mlp.linear1.": ".mlp.fc1.", ".mlp.linear2.": ".mlp.fc2."}


@dataclass(frozen=True)
class SwinWeightsReport:
    """What was read; `expected` is every tensor of the encoder, and `filled` is never less."""

    path: str
    sha256: str  # of the file; no checksum of the published one is known to us
    filled: int
    expected: int
    left: tuple[str, ...]  # names in the file that the encoder has no use for
    merging: str = "legacy"


def load_swin_ssl_weights(encoder: nn.Module, path: str | Path) -> SwinWeightsReport:
    """Fill the Swin transformer of `encoder`; any other file, or a part of one, is refused and changes nothing."""
    swin = _swin_of(encoder)
    _check_merging(swin, path)
    stored = _read(path)
    own = swin.state_dict()
    names = {name: _published_name(name) for name in own}
    if lacking := [name for name in names.values() if name not in stored]:
        raise ValueError(
            f"{path}: expected model_swinvit.pt, which has {len(names)} tensors of the encoder; {len(lacking)} are not "
            f"there, the first is {lacking[0]}. It seems to be {what_it_seems(stored)}; {_how_to_get()}"
        )
    values = {name: stored[published] for name, published in names.items()}
    for name, value in values.items():
        _check_tensor(f"{path}: {names[name]}", value, own[name])
    swin.load_state_dict(values)
    left = tuple(sorted(set(stored) - set(names.values())))
    return SwinWeightsReport(str(path), sha256_of(Path(path)), len(values), len(own), left)


def what_it_seems(names: Mapping[str, object]) -> str:
    """A guess at a file by the names in it."""
    bare = [name.removeprefix(PREFIX) for name in names]
    if not bare:
        return "empty"
    if any(name.startswith("encoder.mask_token") or name.startswith("encoder.patch_embed.") for name in bare):
        return "ssl_pretrained_weights.pth of the disrupted autoencoders (DAE), another project's encoder and decoder"
    if any(name.startswith(("encoder1.", "decoder1.", "encoder10.", "out.conv")) for name in bare):
        return "a SwinUNETR checkpoint, trained to segment"
    if any("swinViT." in name for name in bare):
        return "a checkpoint of one's own pre-training with MONAI (names begin with swinViT)"
    if any(name.startswith(("swin.", "image_encoder.")) for name in bare):
        return "a checkpoint of this project; load it as such"
    if any(name.startswith("layers1.0.") for name in bare) and any(".mlp.linear1." in name for name in bare):
        return "a state dict of MONAI's SwinTransformer, without the published names"
    if any(name.startswith("layers1.0.") for name in bare):
        return "a part of model_swinvit.pt, or one without `module.` in front"
    return f"something else: it begins with {bare[0]}"


def _swin_of(encoder: nn.Module) -> SwinTransformer:
    found = [part for part in encoder.modules() if isinstance(part, SwinTransformer)]
    if len(found) != 1:
        raise ValueError(f"load_swin_ssl_weights: expected an ImageEncoder, got {type(encoder).__name__}")
    return found[0]


def _check_merging(swin: SwinTransformer, path: str | Path) -> None:
    if swin.config.merging != "legacy":
        raise ValueError(
            f"{path}: the published weights were trained with the patch merging of MONAI up to 1.4; with "
            f"merging={swin.config.merging!r} they load and compute other features. "
            'Use ImageEncoderConfig(merging="legacy")'
        )


def _read(path: str | Path) -> Mapping[str, Tensor]:
    """The tensors by name, from under `state_dict` or `model` where the file has such a level."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"Swin weights: no file {path}; {_how_to_get()}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        short = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a file of plain torch weights ({short}); {_how_to_get()}") from error
    for level in ("state_dict", "model"):
        if isinstance(stored, Mapping) and isinstance(stored.get(level), Mapping):
            stored = stored[level]
    if not isinstance(stored, Mapping):
        raise ValueError(f"{path}: expected tensors by name, got a {type(stored).__name__}; {_how_to_get()}")
    return stored


def _published_name(name: str) -> str:
    for own, published in RENAMED.items():
        name = name.replace(own, published)
    return PREFIX + name


def _check_tensor(where: str, value: object, own: Tensor) -> None:
    if not isinstance(value, Tensor) or value.shape != own.shape:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{where} is {shape}, this encoder's {tuple(own.shape)}; the published weights need features=48, window=7, "
            "depths=(2, 2, 2, 2), heads=(3, 6, 12, 24)"
        )
    if not own.dtype.is_floating_point and not torch.equal(value, own):
        raise ValueError(f"{where}: places of the window are numbered otherwise than here; {_how_to_get()}")
    if value.dtype.is_floating_point and not value.isfinite().all():
        raise ValueError(f"{where} holds NaN or infinity; the file is broken; {_how_to_get()}")


def _how_to_get() -> str:
    return f"download {URL} (about 0.4 GB, most of it not the encoder's) and pass its path"
