"""A pre-trained model on disk: its weights, how scans have to be prepared for it, and on whom it was trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.model import Cinp, ModelConfig
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.pairs import FILES, PairConfig
from study_lib.files import atomic_path, atomic_write_json
from study_lib.intensity import Normaliser
from study_lib.splits import forbid_leak
from study_lib.training import read_tensor_file, write_tensor_file

FORMAT = 1
SEEN = ("subject", "family", *(name for name in FILES if name.endswith("sha256")))
WEIGHTS, NORMALISER, ABOUT = "weights.safetensors", "normaliser.json", "model.json"


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A model in eval mode. `seen` names everybody that training or the choice of its state has looked at."""

    model: Cinp
    pairs: PairConfig
    seen: pd.DataFrame
    about: Mapping[str, Any]  # name of the cohort, record of the kept iteration, whatever else is worth knowing

    def save(self, folder: str | Path) -> Path:
        """Write the folder; `model.json`, written last, says that it is whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).unlink(missing_ok=True)
        with atomic_path(folder / WEIGHTS) as temporary:
            write_tensor_file(temporary, self.model.state_dict(), {"merging": self.model.config.image.merging})
        self.pairs.normaliser.save(folder / NORMALISER)
        content = {
            "format": FORMAT,
            "model": plain_config(self.model.config),
            "pairs": {"size": list(self.pairs.size), "spacing_mm": self.pairs.spacing_mm},
            "seen": {name: self.seen[name].astype(str).tolist() for name in SEEN},
            "about": dict(self.about),
        }
        atomic_write_json(folder / ABOUT, content)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "PretrainedModel":
        """What `save` wrote."""
        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            raise FileNotFoundError(
                f"{folder}: expected a pre-trained model ({ABOUT}, {WEIGHTS}); make one with "
                "python -m cinp_lib pretrain --manifest MANIFEST --out DIR, it lies in DIR/model"
            )
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(
                f"{folder / ABOUT}: expected format {FORMAT}, got {content.get('format')!r}; train it again"
            )
        model = Cinp(model_config(content["model"]))
        tensors, words = read_tensor_file(folder / WEIGHTS)
        if words.get("merging") != model.config.image.merging:
            raise ValueError(
                f"{folder / WEIGHTS}: trained with the patch merging {words.get('merging')!r}, the model has "
                f"{model.config.image.merging!r}; its features would be others. Restore {ABOUT}"
            )
        model.load_state_dict(tensors)
        size, spacing_mm = tuple(content["pairs"]["size"]), content["pairs"]["spacing_mm"]
        pairs = PairConfig(size, spacing_mm, Normaliser.load(folder / NORMALISER))
        return cls(model.eval(), pairs, pd.DataFrame(content["seen"], columns=SEEN), content["about"])

    def forbid_leak(self, evaluation: pd.DataFrame) -> None:
        """Raise LeakError where one of these people, families or scans has been seen in training."""
        forbid_leak(self.seen, evaluation)

    def for_images_alone(self) -> PairConfig:
        """How to prepare scans that may come without a network."""
        return replace(self.pairs, alone=True)


def plain_config(config: ModelConfig) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    content = vars(config) | {"image": vars(config.image), "network": vars(config.network)}
    return json.loads(json.dumps(content))


def model_config(content: Mapping[str, Any]) -> ModelConfig:
    """The settings that `plain_config` gave."""
    image, network = ImageEncoderConfig(**content["image"]), NetworkEncoderConfig(**content["network"])
    limits = tuple(content["tau_limits"])
    return ModelConfig(**dict(content) | {"image": image, "network": network, "tau_limits": limits})
