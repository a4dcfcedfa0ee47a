"""A trained model as a folder: weights, settings, normaliser, sites and a card, read back without running any code.

generator.safetensors, style_encoder.safetensors, mapping.safetensors    the averaged (EMA) networks
normaliser.json    how intensities get their units
sites.json         the training sites: subjects, scanner, mean style
README.md          the model card
config.json        everything else, and the SHA-256 of the files above; written last, so that half a folder is none
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_lib.model_card import CardFacts, model_card
from gan_lib.networks import NetworkConfig
from gan_lib.slices import SliceBox
from gan_lib.trained_model import NETWORKS, ModelConfig, Site, SliceView, TrainedModel
from study_lib.files import atomic_path, atomic_write_json, atomic_write_text, sha256_of
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.provenance import package_versions
from study_lib.training import DamagedFile, read_tensor_file, write_tensor_file

FORMAT = 1
KIND = "gan_lib harmonisation model"
FILES = (*(f"{name}.safetensors" for name in NETWORKS), "normaliser.json", "sites.json")


class ModelFolderError(ValueError):
    """A folder that is no whole model of a kind that is known here; the message names the file and the fix."""


def write_model(folder: str | Path, model: TrainedModel, facts: CardFacts) -> str:
    """Write a model, over an older one if there is one; gives its checksum.

    The old config goes first and the new one comes last: a folder that a kill left half-written is refused.
    """
    folder, config = Path(folder), model.config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    for name in NETWORKS:
        network = getattr(model, name)
        with atomic_path(folder / f"{name}.safetensors") as path:
            write_tensor_file(path, network.state_dict(), {"network": type(network).__name__})
    config.normaliser.save(folder / "normaliser.json")
    atomic_write_json(folder / "sites.json", [_site_content(site) for site in config.sites])
    atomic_write_text(folder / "README.md", model_card(config, facts))
    content = _content(config) | {"cohort": facts.cohort, "files": {name: sha256_of(folder / name) for name in FILES}}
    checksum = _digest(content)
    atomic_write_json(folder / "config.json", content | {"sha256": checksum})
    return checksum


def read_model(folder: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Read what `write_model` wrote. Weights come from safetensors and settings from JSON: no code is run."""
    folder = Path(folder)
    content = _read_config(folder)
    _check_files(folder, content["files"])
    try:
        config = _config(folder, content)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFolderError(
            f"{folder}: its settings do not fit together ({error}); train the model again"
        ) from error
    networks = {name: _network(folder, name, config.networks, torch.device(device)) for name in NETWORKS}
    return TrainedModel(config, **networks, checksum=content["sha256"])


def _content(config: ModelConfig) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "networks": asdict(config.networks),
        "grid": {"shape": config.grid.shape, "affine": config.grid.affine.tolist()},
        "views": {plane: asdict(view) for plane, view in config.views.items()},
        "iterations": int(config.iterations),
        "packages": package_versions(),
    }


def _config(folder: Path, content: dict[str, Any]) -> ModelConfig:
    known = {entry.name for entry in fields(NetworkConfig)}
    if unknown := set(content["networks"]) - known:
        raise ValueError(f"networks: {', '.join(sorted(unknown))} is not known here; update this package")
    grid = Grid(tuple(content["grid"]["shape"]), np.array(content["grid"]["affine"]))
    return ModelConfig(
        NetworkConfig(**content["networks"]),
        grid,
        {plane: SliceView(SliceBox(**view["box"]), view["least_brain"]) for plane, view in content["views"].items()},
        Normaliser.load(folder / "normaliser.json"),
        tuple(_site(entry) for entry in json.loads((folder / "sites.json").read_text(encoding="utf-8"))),
        content["iterations"],
    )


def _site_content(site: Site) -> dict[str, Any]:
    styles = {plane: np.asarray(style, dtype=np.float32).tolist() for plane, style in site.styles.items()}
    return {"name": site.name, "subjects": int(site.subjects), "scanner": dict(site.scanner), "styles": styles}


def _site(content: dict[str, Any]) -> Site:
    styles = {plane: np.array(style, dtype=np.float32) for plane, style in content["styles"].items()}
    return Site(content["name"], content["subjects"], styles, content["scanner"])


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the config without its own: with the files' in it, that of the whole model."""
    plain = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode("utf-8")).hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give the folder of a trained model")
    if not path.is_file():
        started = any((folder / name).is_file() for name in FILES)
        what = "its writing was interrupted: train on, or copy it again" if started else "give the folder `model`"
        raise FileNotFoundError(f"{folder}: expected config.json, the last file of a trained model; {what}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"{path}: expected JSON ({error}); copy the model folder again") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ModelFolderError(f'{path}: expected "kind": "{KIND}"; this is not the folder of a harmonisation model')
    if content.get("format") != FORMAT:
        raise ModelFolderError(
            f"{path}: expected a model folder of format {FORMAT}, got {content.get('format')!r}; a newer one needs a "
            "newer version of this package"
        )
    if content.get("sha256") != _digest(content):
        raise ModelFolderError(
            f"{path}: its text does not fit its checksum, it was changed; copy the model folder again"
        )
    return content


def _check_files(folder: Path, expected: Mapping[str, str]) -> None:
    missing = [name for name in FILES if name not in expected or not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: the model lacks {', '.join(missing)}; copy the whole folder again")
    damaged = [name for name in FILES if sha256_of(folder / name) != expected[name]]
    if damaged:
        raise ModelFolderError(
            f"{folder}: {', '.join(damaged)} differs from its checksum in config.json (damaged, or of another "
            "model); copy the whole folder again"
        )


def _network(folder: Path, name: str, config: NetworkConfig, device: torch.device) -> nn.Module:
    path = folder / f"{name}.safetensors"
    try:
        state, _ = read_tensor_file(path)
    except DamagedFile as error:
        raise ModelFolderError(f"{error}; copy the whole folder again") from error
    if bad := [key for key, value in state.items() if not _is_finite(value)]:
        raise ModelFolderError(f"{path}: {bad[0]} holds NaN or infinite weights; the training broke down, repeat it")
    with torch.random.fork_rng(devices=[]):  # the first weights, soon replaced, must not move the caller's randomness
        network = NETWORKS[name](config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFolderError(f"{path}: its weights do not fit the sizes in config.json ({error})") from error
    return network.requires_grad_(False).eval().to(device)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
