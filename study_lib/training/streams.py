"""Randomness without a past: what a step draws depends on seed, purpose, step and rank alone.

So a run that was stopped draws the same numbers when it goes on, and no state of a generator needs saving.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(seed: int, name: str, step: int, rank: int | None = None) -> np.random.Generator:
    """A generator for one purpose at one step; `rank=None` for what all ranks draw alike.

    Drawing with it and moving the numbers (`torch.from_numpy(…).to(device)`) gives the same on every device.
    """
    return np.random.default_rng(_key(seed, name, step, rank))


def torch_stream(
    seed: int, name: str, step: int, rank: int | None = None, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """The same for torch functions that take a generator; CPU and GPU draw different numbers.

    On the CPU torch uses 32 bits of a seed: of 10,000 such generators two coincide with a chance of 1 %.
    """
    import torch

    return torch.Generator(device).manual_seed(_key(seed, name, step, rank) % 2**63)


def _key(seed: int, name: str, step: int, rank: int | None) -> int:
    """256 bits from an unambiguous text: no two purposes, steps or ranks share a key."""
    words = json.dumps([int(seed), str(name), int(step), None if rank is None else int(rank)])
    return int.from_bytes(hashlib.sha256(words.encode("utf-8")).digest(), "big")
