"""How far a training has come: what is saved with its weights, and gone on from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from study_lib.training.checkpoints import Checkpoints
from study_lib.training.guard import NonFiniteLoss
from study_lib.training.packing import pack, unpack
from study_lib.training.ranks import Ranks
from study_lib.training.records import Record, Sums, changed_settings


@dataclass(kw_only=True)
class Progress(ABC):
    """The part of a training's state that is the same for every study; subclasses hold what is trained.

    `config` has `iterations`, `batch`, and `plain()`: the settings as JSON gives them back.
    """

    free: ClassVar[Sequence[str]] = ("save_every",)  # settings that may change on the way
    unit: ClassVar[str]  # what a batch is counted in

    config: Any
    device: torch.device
    iteration: int = 0
    best: float = float("inf")
    records: list[Record] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """Everything that moves, by the name it has in checkpoints."""

    def save(self, checkpoints: Checkpoints, name: str = "") -> None:
        """As the numbered checkpoint of this iteration, or under a name."""
        tensors, numbers = pack(self.parts())
        if broken := [key for key, value in tensors.items() if not value.isfinite().all()]:
            raise NonFiniteLoss(
                f"iteration {self.iteration}: expected finite weights, got others in {', '.join(broken[:5])}: the last "
                "update's gradient was not finite. The last checkpoint stays; lower the learning rate",
                {},
                self.iteration,
                broken,
            )
        content = {"parts": numbers, "best": self.best, "records": self.records, "sums": self.sums.state_dict()}
        given = (self.iteration, tensors, content | {"config": self.config.plain()})
        checkpoints.save_as(name, *given) if name else checkpoints.save(*given)

    def resume(self, checkpoints: Checkpoints, name: str = "") -> bool:
        """Go on from the newest intact checkpoint, or from a named one; False where there is none."""
        if name and not checkpoints.has(name):
            return False
        if (checkpoint := checkpoints.load(name) if name else checkpoints.latest()) is None:
            return False
        changed = changed_settings(checkpoint.state["config"], self.config.plain(), self.free)
        if changed:
            raise ValueError(
                f"{checkpoints.folder}: its checkpoints were trained with other settings ({'; '.join(changed)}); "
                "give the same ones to go on, or an empty folder to start anew"
            )
        unpack(self.parts(), checkpoint.tensors, checkpoint.state["parts"])
        self.iteration, self.best = checkpoint.step, checkpoint.state["best"]
        self.records, self.sums = checkpoint.state["records"], Sums.of(checkpoint.state["sums"], self.device)
        return True

    def is_due(self, every: int) -> bool:
        """Whether what is done every so many iterations is to be done now; at the end everything is."""
        return self.iteration % every == 0 or self.iteration == self.config.iterations

    def add_record(self, ranks: Ranks) -> Record:
        """The means since the last record; kept here, so that curves survive a restart."""
        means = ranks.mean(self.sums.means())
        speed = {f"{self.unit}_per_second": self.config.batch / means.pop("seconds")}
        self.records.append({"iteration": self.iteration, **speed, **means})
        self.sums = Sums()
        return self.records[-1]

    def add_validation(self, scores: Record, checkpoints: Checkpoints, ranks: Ranks) -> None:
        """Add scores on unseen people to the last record; the state of the lowest `error` is kept as `best`."""
        self.records[-1] |= {f"validation_{name}": value for name, value in scores.items()}
        if scores["error"] < self.best:
            self.best = scores["error"]
            if ranks.is_first:
                self.save(checkpoints, "best")
