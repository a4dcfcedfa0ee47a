"""A step of CINP's pre-training, plainly: the whole graph of the batch at once, its image branch of MONAI's parts.

The encoder passes over images and masked images are separate. Network encoder, projections, losses and optimiser are
those of `cinp_lib`, and so are the random numbers: the same seeds for the same things. So losses and gradients are
those of `cinp_lib.pretrain.train_step` where the image encoder itself draws nothing: no dropout, no stochastic depth.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain_cinp import PlainImageBranch
from cinp_lib import losses
from cinp_lib.augmentation import augmented_networks, augmented_volumes, replayed
from cinp_lib.masking import apply_mask, draw_mask
from cinp_lib.model import Cinp, Masks, ModelConfig, Views, Volumes
from cinp_lib.objective import pair_loss
from cinp_lib.pair_sampler import Batch
from cinp_lib.pair_store import PairStore
from cinp_lib.pretraining_state import PretrainingConfig, optimiser_of
from study_lib.training import Precision, stream

Parts = dict[str, Tensor]


class PlainCinp(Cinp):
    """Figure 1 with MONAI's encoder and the published decoder; weights begin as those of `Cinp`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        branch = PlainImageBranch(config.image)
        branch.take(self.image_encoder, self.decoder)
        del self.image_encoder, self.decoder
        self.image_branch = branch

    def see(self, volumes: Volumes, masks: Masks | None, masked: Sequence[int] | None = None) -> Views:
        """I, then I*, each in a pass of its own."""
        volumes = volumes if self.voxels is None else self.voxels(volumes)
        chosen = volumes if masked is None else volumes[list(masked)]
        features, _, made = self.image_branch(volumes, apply_mask(chosen, masks, self.config.mask_fill))
        return Views(self.image_features(features, volumes), made if self.voxels is None else self.voxels.restore(made))


class PlainPretraining:
    """The model, its optimiser, and how far they have come."""

    def __init__(self, config: PretrainingConfig, device: torch.device) -> None:
        self.config, self.device, self.iteration = config, device, 0
        torch.manual_seed(config.seed)
        self.model = PlainCinp(config.model).to(device)
        self.optimiser = optimiser_of(self.model, config)

    def step(self, store: PairStore, places: Batch) -> Parts:
        """One update on the pairs at these places of the store. Gives the named losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(self.iteration)
        self.model.train()
        self.optimiser.zero_grad()
        loss, parts = self.losses(store, places)
        loss.backward()
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        parts["gradient_norm"] = torch.nn.utils.clip_grad_norm_(trained, self.config.clip)
        self.optimiser.step()
        self.model.clamp_tau()
        self.iteration += 1
        return parts

    def losses(self, store: PairStore, places: Batch) -> tuple[Tensor, Parts]:
        """Contrastive, matching and reconstruction loss of a batch, and their weighted sum."""
        config, dtype = self.config, self.model.log_tau.dtype
        masked = list(range(0, len(places), config.reconstruct_every))
        volumes = torch.from_numpy(store.volumes(places))[:, None].to(self.device, dtype)
        networks = torch.from_numpy(store.networks(places)).to(self.device, dtype)
        masks = self._masks(masked)
        with replayed(self._seed("chunks 0"), self.device):
            volumes = augmented_volumes(volumes, config.augmentation)
            networks = augmented_networks(networks, config.augmentation)
            with Precision(config.precision).autocast(self.device):
                views = self.model.see(volumes, masks, masked)
                features = views.features.to(dtype), self.model.read(networks).to(dtype)
        strangers = stream(config.seed, "strangers", self.iteration)
        with replayed(self._seed("projections 0"), self.device):
            paired, parts = pair_loss(self.model, features, config.objective, store.families[places], strangers)
        reconstruction, found = losses.masked_image_modelling(
            volumes[masked], views.reconstructions, masks, config.objective.over
        )
        loss = paired + config.objective.weights.reconstruction * reconstruction
        return loss, parts | found | {"loss": loss.detach()}

    def _masks(self, masked: Sequence[int]) -> Masks:
        config = self.config
        streams = (stream(config.seed, f"masks {place}", self.iteration) for place in masked)
        shape = config.model.image.size, config.mask_share, config.mask_block
        drawn = np.stack([draw_mask(*shape, rng) for rng in streams])
        return torch.from_numpy(drawn)[:, None].to(self.device)

    def _seed(self, name: str) -> int:
        return int(stream(self.config.seed, name, self.iteration).integers(2**62))
