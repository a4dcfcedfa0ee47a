"""The ground that long training runs stand on: checkpoints, randomness that resumes, averages, ranks, interruption.

A loop that uses it ends in the same weights whether or not it was stopped on the way:

    with Ranks() as ranks, Interruption() as interruption:
        checkpoint = checkpoints.latest()                       # newest intact one, or None
        if checkpoint:
            unpack(parts, checkpoint.tensors, checkpoint.state["parts"])
        for step in range(checkpoint.step if checkpoint else 0, steps):
            rng = stream(seed, "batches", step)                 # depends on the step, not on what was drawn before
            ...
            if ranks.any(interruption.requested):               # save, then
                raise CallAgain(step + 1, interruption.reason)

Names are fetched from their modules when first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study_lib.training.cards import fit_on_cards
    from study_lib.training.checkpoints import Checkpoint, CheckpointError, Checkpoints
    from study_lib.training.device import Precision, deterministic, pick_device, set_threads
    from study_lib.training.ema import Ema
    from study_lib.training.guard import NonFiniteLoss, check_finite
    from study_lib.training.interruption import CALL_AGAIN, CallAgain, Interruption
    from study_lib.training.packing import pack, unpack
    from study_lib.training.ranks import Ranks
    from study_lib.training.streams import stream, torch_stream
    from study_lib.training.tensor_file import DamagedFile, read_tensor_file, write_tensor_file

# Whole dotted names: `study_lib.workflow.digest` follows them.
_NAMES = {
    "study_lib.training.cards": ("fit_on_cards",),
    "study_lib.training.checkpoints": ("Checkpoint", "CheckpointError", "Checkpoints"),
    "study_lib.training.device": ("Precision", "deterministic", "pick_device", "set_threads"),
    "study_lib.training.ema": ("Ema",),
    "study_lib.training.guard": ("NonFiniteLoss", "check_finite"),
    "study_lib.training.interruption": ("CALL_AGAIN", "CallAgain", "Interruption"),
    "study_lib.training.packing": ("pack", "unpack"),
    "study_lib.training.ranks": ("Ranks",),
    "study_lib.training.streams": ("stream", "torch_stream"),
    "study_lib.training.tensor_file": ("DamagedFile", "read_tensor_file", "write_tensor_file"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "CALL_AGAIN",
    "CallAgain",
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "DamagedFile",
    "Ema",
    "Interruption",
    "NonFiniteLoss",
    "Precision",
    "Ranks",
    "check_finite",
    "deterministic",
    "fit_on_cards",
    "pack",
    "pick_device",
    "read_tensor_file",
    "set_threads",
    "stream",
    "torch_stream",
    "unpack",
    "write_tensor_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
