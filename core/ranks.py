"""One process or many: who computes what, and how it comes together (torch.distributed, started by torchrun).

torch is imported where ranks meet: the command line asks whether it was launched before it needs torch.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """This process among `world` that share the work."""

    rank: int = 0
    world: int = 1

    def mine(self, position: int) -> bool:
        """Whether the piece of work at this position is this process's own."""
        return position % self.world == self.rank

    def gather(self, item) -> list | None:
        """The items of all processes, in the order of their ranks, on rank 0; None elsewhere."""
        if self.world == 1:
            return [item]
        from torch import distributed as dist

        items = [None] * self.world if self.rank == 0 else None
        dist.gather_object(item, items)
        return items

    def agree(self, item):
        """Rank 0's item, everywhere."""
        if self.world == 1:
            return item
        from torch import distributed as dist

        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Ranks()


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun, or accelerate launch with several processes, started this process."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes of this launch, connected: each on its own GPU if there are enough, else on the CPU."""
    import torch
    from torch import distributed as dist

    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if gpus > local:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
