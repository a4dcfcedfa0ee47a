"""Where and how precisely to compute."""

import os
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: the GPU where torch sees one, else the CPU; or a device by name: `cpu`, `cuda`, `cuda:1`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:<number>; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs here; use `cpu`, or "
            "install a CUDA build of torch (README)"
        )
    return device


@dataclass(frozen=True)
class Precision:
    """`float32`, or `bf16`: weights stay float32, convolutions and matrix products run in bfloat16."""

    name: str = "float32"

    def __post_init__(self) -> None:
        if self.name not in ("float32", "bf16"):
            raise ValueError(f"precision: expected float32 or bf16; got {self.name!r}")

    def autocast(self, device: torch.device | str) -> AbstractContextManager:
        """The context for forward passes and losses; backward passes run outside it.

        A CPU without bfloat16 instructions computes it too, more slowly than float32.
        """
        device = torch.device(device)
        if self.name == "float32":
            return nullcontext()
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            name = torch.cuda.get_device_name(device)
            raise ValueError(f"precision: {name} has no bfloat16 (it came with NVIDIA's Ampere); use float32")
        return torch.autocast(device.type, dtype=torch.bfloat16)


def set_threads(count: int | None = None) -> int:
    """Use `count` CPU threads inside operations (None: as they are); gives the number in use.

    Sums depend on it in the last bits: a run that is to resume bit by bit keeps it.
    """
    if count is not None:
        if count < 1:
            raise ValueError(f"threads: expected at least 1; got {count}")
        torch.set_num_threads(count)
    return torch.get_num_threads()


def deterministic(seed: int, strict: bool = True) -> dict[str, str]:
    """Seed every global generator and choose repeatable algorithms, for this process; gives notes for the record.

    On one CPU model, with one number of threads and one build of torch, runs are then equal bit by bit.
    `strict=False` warns instead of raising where a GPU operation has no repeatable algorithm.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that still draw from it
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs a pass over all memory
    torch.backends.cudnn.benchmark = False
    return {
        "seed": str(seed),
        "algorithms": "deterministic" if strict else "deterministic where there are such",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
