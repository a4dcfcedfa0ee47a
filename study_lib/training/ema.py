"""The running average of a module's weights."""

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """`module`: a frozen copy in eval mode whose weights follow those of the source.

    The copy is made of the source as it is now: make it after initialisation, and before or after loading a
    checkpoint (which holds the average too).
    """

    def __init__(self, source: nn.Module, decay: float, warm_up: bool = False) -> None:
        """`warm_up`: the decay is at most (1 + n) / (10 + n) after n updates, so that the start is forgotten soon."""
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number from 0 to below 1; got {decay}")
        half = [name for name, value in source.named_parameters() if value.dtype in (torch.float16, torch.bfloat16)]
        if half:
            raise ValueError(f"an average in 16 bits stands still: expected float32 weights; {half[0]} is not")
        self.decay, self.warm_up, self.updates = float(decay), warm_up, 0
        self.module = copy.deepcopy(source).requires_grad_(False).eval()
        self._source = source

    @torch.no_grad()
    def update(self) -> None:
        """average <- decay * average + (1 - decay) * weights; buffers are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        average, weights = list(self.module.parameters()), list(self._source.parameters())
        if average:
            torch._foreach_lerp_(average, weights, 1 - decay)
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(self._source.buffers()))
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a checkpoint needs; `pack` takes it."""
        weights = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {"updates": self.updates, **weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        weights = {name.removeprefix("module."): value for name, value in state.items() if name != "updates"}
        self.module.load_state_dict(weights)
        self.updates = int(state["updates"])
