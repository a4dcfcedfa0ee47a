"""Training stops where a loss is no number, and says where."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NAMED = 16  # sites and subjects spelled out in the message


class NonFiniteLoss(FloatingPointError):
    """Some part of the loss is NaN or infinite; `parts` holds those parts, `where` the sites and subjects."""

    def __init__(self, message: str, parts: Mapping[str, float], step: int, where: Sequence[str]) -> None:
        super().__init__(message, parts, step, where)
        self.parts, self.step, self.where = dict(parts), step, list(where)

    def __str__(self) -> str:
        return str(self.args[0])


def check_finite(parts: Mapping[str, Tensor | float], step: int, where: str | Sequence[str]) -> None:
    """Raise `NonFiniteLoss` where a part of the loss is not finite; `where` names the batch: sites and subjects.

    One wait for the device, however many parts.
    """
    tensors = {name: value.detach() for name, value in parts.items() if isinstance(value, Tensor)}
    fine = {name: math.isfinite(value) for name, value in parts.items() if name not in tensors}
    if tensors:
        home = next(iter(tensors.values())).device
        flags = torch.stack([value.isfinite().all().to(home) for value in tensors.values()])
        fine |= dict(zip(tensors, flags.tolist(), strict=True))
    bad = {name: float(tensors[name].sum() if name in tensors else parts[name]) for name in parts if not fine[name]}
    if bad:
        places = [where] if isinstance(where, str) else list(where)
        raise NonFiniteLoss(_message(bad, step, places), bad, step, places)


def _message(bad: Mapping[str, float], step: int, places: Sequence[str]) -> str:
    named = ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
    values = ", ".join(f"{name} = {value}" for name, value in bad.items())
    return (
        f"step {step}: expected finite losses; got {values} on {named or 'an unnamed batch'}. Look at these images; "
        "where they are sound, lower the learning rate or train in float32. The last checkpoint is older than this step"
    )
