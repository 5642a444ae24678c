"""Collective operations of the ranks of one lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ranks:
    """World rank and size of a lane; with one rank nothing is communicated.

    Attributes:
        rank: Rank of this process.
        size: Number of workers of the lane.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def of_process_group() -> Ranks:
        """Returns the ranks of the process group that Ray Train has set up."""
        import torch.distributed as dist

        if not dist.is_initialized():
            return Ranks()
        return Ranks(dist.get_rank(), dist.get_world_size())

    def share(self, value: Any) -> Any:
        """Broadcasts the first rank's `value` to every rank."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def agree(self, reason: str | None) -> str | None:
        """Returns on every rank the reason of the lowest rank that has one, or None."""
        if self.size == 1:
            return reason
        import torch.distributed as dist

        reasons: list[str | None] = [None] * self.size
        dist.all_gather_object(reasons, reason)
        return next((each for each in reasons if each is not None), None)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sums the tensor in place over the ranks (all-reduce)."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def scatter_sum(self, whole: torch.Tensor) -> torch.Tensor:
        """Returns this rank's shard of the sum over the ranks; `whole` has a multiple of `size` elements."""
        if self.size == 1:
            return whole
        import torch
        import torch.distributed as dist

        share = torch.empty(whole.numel() // self.size, dtype=whole.dtype, device=whole.device)
        dist.reduce_scatter_tensor(share, whole)
        return share

    def gather(self, share: torch.Tensor, whole: torch.Tensor) -> None:
        """Fills `whole` with the shards of all ranks, in order (all-gather)."""
        if self.size == 1:
            if whole.data_ptr() != share.data_ptr():
                whole.copy_(share)
            return
        import torch.distributed as dist

        dist.all_gather_into_tensor(whole, share.contiguous())

    def wait(self) -> None:
        """Waits until every rank has called it (barrier)."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()
