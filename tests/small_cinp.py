"""A pre-training model that trains on tiny pairs in seconds, for tests."""

from dataclasses import replace

import numpy as np
import torch
from small_pairs import PAIRS, REGIONS

from cinp_lib.augmentation import AugmentationConfig
from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.model import Cinp, ModelConfig
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.pretraining_state import PretrainingConfig

IMAGE = ImageEncoderConfig(
    size=PAIRS.size, features=4, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window=2, dropout=0.1, drop_path=0.2
)
NETWORK = NetworkEncoderConfig(regions=REGIONS, heads=2, hidden=8, clusters=4, reduced=2, embedding=12, dropout=0.1)
MODEL = ModelConfig(image=IMAGE, network=NETWORK, embedding=10, feature_dropout=0.1, tau=0.2)
CALM = ModelConfig(
    image=replace(IMAGE, dropout=0.0, drop_path=0.0), network=replace(NETWORK, dropout=0.0), embedding=10, tau=0.2
)
STILL = AugmentationConfig(noise=0.0, scale=0.0, shift=0.0, flip=0.0)
# All that a run can do, in few iterations.
TRAINING = PretrainingConfig(
    model=replace(MODEL, voxelwise=True, components=3),
    augmentation=AugmentationConfig(edge_noise=0.1, edge_dropout=0.1),
    component_steps=4,
    iterations=8,
    batch=6,
    chunk=4,
    learning_rate=1e-3,
    least_rate=1e-4,
    warm_up=2,
    weight_decay=1e-2,
    mask_block=4,
    record_every=1,
    save_every=3,
    validate_every=4,
)


def give_statistics(model: Cinp) -> None:
    """Those of strangers without any structure: what a model needs before it can see."""
    rng = np.random.default_rng(0)
    volumes = rng.uniform(0.1, 0.9, (5, *PAIRS.size)).astype(np.float32)
    model.voxels.fit([volumes])
    if model.image_components is not None:
        model.image_components.fit(model.voxels(torch.from_numpy(volumes)[:, None]).flatten(1).numpy())
        model.network_components.fit(rng.uniform(-1, 1, (5, REGIONS * (REGIONS - 1) // 2)))
