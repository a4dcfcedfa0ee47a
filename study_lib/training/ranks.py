"""Several processes that train one model on one global batch, as `torchrun` starts them; alone, nothing is distributed.

Every rank draws the same global batch and takes its share, so that the number of ranks does not change the training.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Self, TypeVar

import torch
from torch import Tensor, distributed

from study_lib.training.device import pick_device

Batch = TypeVar("Batch")
Value = TypeVar("Value", Tensor, Mapping)


class Ranks:
    """This process among its siblings: `rank` of `world`, on `device`; gloo on CPU, nccl on GPU."""

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.world = (int(os.environ.get(name, least)) for name, least in (("RANK", 0), ("WORLD_SIZE", 1)))
        self.device = pick_device(device)
        self._ours = False
        if self.device.type == "cuda" and self.world > 1:
            self.device = torch.device("cuda", self._gpu())

    def __enter__(self) -> Self:
        nccl = self.device.type == "cuda"
        if self.world > 1 and nccl:
            torch.cuda.set_device(self.device)
        if self.world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if nccl else "gloo", device_id=self.device if nccl else None)
            self._ours = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            distributed.destroy_process_group()
            self._ours = False

    @property
    def is_first(self) -> bool:
        """The rank that writes files and talks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This rank's place in a global batch of `count`."""
        if count % self.world:
            nearest = max(1, round(count / self.world)) * self.world
            raise ValueError(
                f"a batch of {count} cannot be shared equally by {self.world} ranks: choose a batch of {nearest}, "
                f"or a number of ranks that divides {count}"
            )
        each = count // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def share(self, items: Batch) -> Batch:
        """This rank's items of a global batch: a list, array or tensor (along its first axis)."""
        return items[self.part(len(items))]

    @torch.no_grad()
    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over ranks: one all-reduce for each type of number.

        A parameter without gradient counts as zero where another rank has one, and keeps none where no rank has
        one: optimisers skip those, as they would with one rank. All ranks pass the same parameters in one order.
        """
        if self.world == 1:
            return
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            kinds.setdefault(parameter.dtype, []).append(parameter)
        for group in kinds.values():
            self._mean_gradients(group)

    def mean(self, value: Value) -> Value:
        """Mean over ranks of a tensor, or of each number in a dictionary (one all-reduce; floats come back)."""
        if isinstance(value, Tensor):
            if self.world == 1:
                return value
            total = value.detach().clone(memory_format=torch.contiguous_format)
            distributed.all_reduce(total)
            return total / self.world
        numbers = [torch.as_tensor(one, dtype=torch.float64, device=self.device).detach() for one in value.values()]
        means = self.mean(torch.stack(numbers)).tolist() if numbers else []
        return dict(zip(value, means, strict=True))

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes: all ranks then do the same at the same step."""
        if self.world == 1:
            return bool(flag)
        vote = torch.tensor([int(flag)], dtype=torch.int32, device=self.device)
        distributed.all_reduce(vote, distributed.ReduceOp.MAX)
        return bool(vote.item())

    def agree(self, name: str, number: float) -> None:
        """Raise where ranks differ in what has to be equal, such as the step they resume from."""
        if self.world == 1:
            return
        mine = torch.tensor([number], dtype=torch.float64, device=self.device)
        everyone = [torch.empty_like(mine) for _ in range(self.world)]
        distributed.all_gather(everyone, mine)
        values = [one.item() for one in everyone]
        if len(set(values)) > 1:
            raise RuntimeError(
                f"{name}: expected the same number on all ranks; got {values} in their order. "
                "Ranks on several machines need one shared folder"
            )

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            distributed.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def _mean_gradients(self, parameters: list[Tensor]) -> None:
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = torch.tensor([p.grad is not None for p in parameters], dtype=pieces[0].dtype)
        flat = torch.cat([*(piece.reshape(-1) for piece in pieces), present.to(pieces[0].device)])
        distributed.all_reduce(flat)
        flat /= self.world
        *means, present = flat.split([*(piece.numel() for piece in pieces), len(parameters)])
        torch._foreach_copy_(pieces, [mean.view(piece.shape) for mean, piece in zip(means, pieces, strict=True)])
        lacking = [place for place, parameter in enumerate(parameters) if parameter.grad is None]
        if lacking:  # only then the counts are read, which waits for the device
            anywhere = present.tolist()
            for place in lacking:
                parameters[place].grad = pieces[place] if anywhere[place] else None

    def _gpu(self) -> int:
        local = int(os.environ.get("LOCAL_RANK", self.rank))
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"rank {self.rank} is number {local} on this machine, which has {torch.cuda.device_count()} GPUs: "
                "start as many ranks as there are GPUs (torchrun --nproc-per-node), or train on the CPU"
            )
        return local
