"""What a training run tells of itself: means of named losses between two records, and the table of all records."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

Record = dict[str, float]


@dataclass
class Sums:
    """Losses summed until the next record; the numbers stay on the device until then."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    def add(self, parts: dict[str, Tensor]) -> None:
        """One iteration's losses; an iteration need not have all of them."""
        for name, value in parts.items():
            self.totals[name] = self.totals.get(name, 0) + value.detach().double()
            self.counts[name] += 1

    def means(self) -> Record:
        """Of each loss over the iterations that had it."""
        return {name: float(total) / self.counts[name] for name, total in self.totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"totals": {name: float(total) for name, total in self.totals.items()}, "counts": dict(self.counts)}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> "Sums":
        """What `state_dict` gave, to the last bit."""
        double = {"dtype": torch.float64, "device": device}
        return cls({n: torch.tensor(v, **double) for n, v in state["totals"].items()}, Counter(state["counts"]))


def records_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record; columns in one order, whether or not training was interrupted."""
    table = pd.DataFrame(list(records))
    return table[["iteration", *sorted(set(table) - {"iteration"})]]


def changed_settings(
    saved: dict[str, Any], now: dict[str, Any], free: Sequence[str] = ("save_every",), prefix: str = ""
) -> list[str]:
    """Settings that differ, by name; those of `free` may, as they do not change what is trained."""
    found = []
    for name in sorted(set(saved) | set(now)):
        old, new = saved.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changed_settings(old, new, free, f"{prefix}{name}.")
        elif old != new and name not in free:
            found.append(f"{prefix}{name} was {old}, is {new}")
    return found
