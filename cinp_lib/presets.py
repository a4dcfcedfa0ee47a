"""Named settings of pre-training, one per profile: `paper` is the study's, the others fit a small machine."""

from dataclasses import dataclass, replace

from cinp_lib import image_config
from cinp_lib.augmentation import AugmentationConfig
from cinp_lib.model import ModelConfig
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.pairs import PairConfig
from cinp_lib.pretraining_state import PretrainingConfig


@dataclass(frozen=True)
class Preset:
    """How scans are prepared, and what is trained on them."""

    pairs: PairConfig
    training: PretrainingConfig


# What a small machine can learn from some hundred pairs in minutes. They are memorised all the same; what decides how
# people are found who were never seen is how easily each side shows what people differ in. Chosen on validation people
# of the built-in cohort of `demo`. Voxelwise standards, components and their alignment are ours; `paper` has none.
SMALL = PretrainingConfig(
    model=ModelConfig(
        # One block for each stage: half the work, and the deepest map of 32 voxels sees the whole brain all the same.
        image=replace(image_config.preset("demo"), depths=(1, 1, 1, 1)),
        # One layer, and a bottleneck that lets the edges of all traits through: 32 numbers do not.
        network=NetworkEncoderConfig(layers=1, hidden=128, bottleneck=512, embedding=256),
        embedding=128,
        feature_dropout=0.3,
        tau=0.3,
        voxelwise=True,  # trained from scratch on some hundred heads: see `voxel_standardiser`
        components=160,  # a quarter of the people: see `principal_components`
        matching="product",
    ),
    # No flips: networks are lateralised, and left regions would be paired with right ones. Intensities change little,
    # as what tells people apart is little.
    augmentation=AugmentationConfig(noise=0.01, scale=0.02, shift=0.01, flip=0.0, edge_dropout=0.2),
    component_steps=100,
    iterations=200,  # 20 times each of 640 pairs; more made validation no better
    batch=64,
    learning_rate=1e-4,  # with 1e-3 what components have found was forgotten before encoders added to it
    least_rate=1e-5,
    warm_up=20,
    weight_decay=0.05,
    mask_block=8,  # a quarter of a side of 32 voxels
    reconstruct_every=4,  # the masked image costs as much as the image, and the decoder as much again
    record_every=10,
    save_every=40,
    validate_every=20,
    best_by="retrieval",  # the loss of so few pairs rises with confidence long before people are found less often
)
# Enough at 6 mm: with the covariance of principal components of volumes and networks, learned from 640 pairs, a fifth
# of 80 validation people find their own network first.
BOX = PairConfig(size=(32, 32, 32), spacing_mm=6.0)

PRESETS = {
    "smoke": Preset(BOX, replace(SMALL, iterations=20, batch=16, record_every=2, save_every=10, validate_every=10)),
    "demo": Preset(BOX, SMALL),
    "paper": Preset(
        PairConfig(),
        PretrainingConfig(
            model=ModelConfig(image=replace(image_config.preset("paper"), checkpoint=True)), chunk=16, precision="bf16"
        ),
    ),
}


def preset(name: str) -> Preset:
    """The settings of a profile."""
    if name not in PRESETS:
        raise KeyError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
