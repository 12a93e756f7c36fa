"""The group of ranks: sums, gathered parts and decisions of one rank, by torch.distributed. N: ranks."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from orthrus.errors import GroupError, reason
from orthrus.ranks.activity import Activity
from orthrus.ranks.direct_sum import MOST_ROWS, DirectSum, Joined
from orthrus.ranks.launch import Launch, launched
from orthrus.ranks.store import open_store
from orthrus.ranks.watch import Watch

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # one rank may wait for prompts while the others wait for it; the watch sees who ends
# torch 2.13 calls it so, and warns of the name that those before it have.
gather: Callable[[Tensor, Tensor], Any] = getattr(distributed, "all_gather_single", distributed.all_gather_into_tensor)
NARROW = (torch.bfloat16, torch.float16)


class RankGroup:
    """The ranks of a launch, as models that are sharded over them and the loop know them.

    What comes out is the same on every rank, bit for bit. All ranks must call the same methods in the same order.
    """

    def __init__(self, launch: Launch, activity: Activity) -> None:
        """Stand for a launch whose ranks have met."""
        self.rank, self.count, self.local_rank = launch.rank, launch.count, launch.local_rank
        self.activity = activity
        self._direct: DirectSum | None = None
        self._joins = Joined.NOTHING

    @property
    def leads(self) -> bool:
        """Whether this is the rank that decides."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks; on a GPU it may take the tensor's place.

        Numbers are added in the order of the ranks, so that what a token gets does not depend on how many others are in
        the pass; of two ranks any order is that one. Those of 16 bits are added in float32.
        """
        if self._direct is not None and tensor.is_cuda and self._direct.fits(tensor):
            return self._direct.sum(tensor)
        if tensor.is_cuda and self.count == 2:
            with self._waiting():
                distributed.all_reduce(tensor)
            return tensor
        parts = self.gathered(tensor)
        total = parts[0].float() if tensor.dtype in NARROW else parts[0]
        for part in parts[1:]:
            total = total + part
        return total.to(tensor.dtype)

    def sum_directly(self, device: torch.device, joins: Joined = Joined.NOTHING) -> str | None:
        """Let sums of little be made by GPUs that read each other's memory; return why they cannot, None: they can.

        Either all ranks' or none's are made so. joins: what sums are one kernel with.
        """
        why, self._joins = None, joins
        if joins is Joined.PRODUCT_AND_NORM and len(set(self.told(torch.cuda.get_device_name(device)))) > 1:
            why = "they are of several kinds, which run unlike numbers of programs at a time"
        try:
            self._direct = _direct_sum(device, joins is Joined.PRODUCT_AND_NORM)
        except (RuntimeError, ImportError, AttributeError) as error:
            why = reason(error)
        problems = [told for told in self.told(why) if told]
        if problems:
            self._direct = None
        return problems[0] if problems else None

    def shared_parts(self, hidden: Tensor) -> DirectSum | None:
        """Return where kernels of this GPU leave parts of hidden [B, n, E] for the others'; None: they do not."""
        fits = self._direct is not None and self._direct.fits(hidden) and hidden.shape[0] * hidden.shape[1] <= MOST_ROWS
        return self._direct if fits and self._joins is not Joined.NOTHING else None

    def joined(self, part: Tensor, size: int) -> Tensor:
        """Return the parts [..., P] of all ranks side by side, as many columns as `size` of them: [..., size]."""
        width = part.shape[-1]
        parts = [
            whole[..., : max(0, min(width, size - rank * width))] for rank, whole in enumerate(self.gathered(part))
        ]
        return torch.cat(parts, dim=-1)

    def from_lead(self, tensor: Tensor) -> Tensor:
        """Return the lead's tensor, which takes the place of this rank's; all have the same shape."""
        with self._waiting():
            distributed.broadcast(tensor, src=0)
        return tensor

    def agree(self, value: T) -> T:
        """Return the lead's value, of the host."""
        values = [value]
        with self._waiting():
            distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def agree_numbers(self, *values: float) -> list[float]:
        """Return the lead's numbers, as many on every rank: quicker than `agree`."""
        return self.from_lead(torch.tensor(values, dtype=torch.float64)).tolist()

    def made_by_lead(self, make: Callable[[], T]) -> T:
        """Return what the lead makes; the others wait for it."""
        return self.agree(make() if self.leads else None)  # type: ignore[return-value]  # the lead's is a T

    def lead_first(self, make: Callable[[], T]) -> T:
        """Return what each rank makes, the lead before the others: what it leaves on the disk they find there."""
        made = make() if self.leads else None
        self.agree(None)
        return make() if made is None else made

    def told(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank."""
        values: list[Any] = [None] * self.count
        with self._waiting():
            # The tensors that objects become are those of a CPU, whose backend is gloo.
            distributed.all_gather_object(values, value, group=_host_group())
        return values

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Raise GroupError on every rank if a fact is not the same on all; facts: by what they are called."""
        every = self.told({name: str(fact) for name, fact in facts.items()})
        for name in facts:
            for rank, other in enumerate(every):
                if other[name] != every[0][name]:
                    raise GroupError(
                        f"the ranks differ in their {name}: rank 0 has {every[0][name]}, rank {rank} {other[name]}"
                    )

    def wait(self) -> None:
        """Return when every rank is here."""
        self.told(None)

    def gathered(self, part: Tensor) -> Tensor:
        """Return the tensors of all ranks, which have the same shape [...]: [N, ...]."""
        parts = part.new_empty(self.count, *part.shape)
        with self._waiting():
            gather(parts.flatten(0, 1), part.contiguous())
        return parts  # [N, ...]

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self.activity.waiting():
            try:
                yield
            except RuntimeError as error:  # of a connection; what backends raise has no class of its own
                raise GroupError("a process of this launch has ended, or cannot be reached any more") from error

    def __deepcopy__(self, memo: dict[int, Any]) -> RankGroup:
        return self  # of copied modules: there is one a process


def join() -> RankGroup | None:
    """Return the group of this process's launch, which it joins now if it has not before; None: it is alone.

    Raises GroupError if the others cannot be met.
    """
    launch = launched()
    return None if launch is None else RankGroup(launch, _joined(launch))


@functools.cache  # one a process, as torch's own group is
def _joined(launch: Launch) -> Activity:
    # Multicast of NVLink can leave a host's GPUs out of service for all when a process ends in the midst of it.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    activity = Activity()
    store = open_store(launch)
    watch = Watch(launch, activity)
    watch.start()
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            distributed.init_process_group(
                backend, store=store, rank=launch.rank, world_size=launch.count, timeout=PATIENCE
            )
        except RuntimeError as error:
            raise GroupError("the processes of this launch cannot reach each other") from error
        atexit.register(_leave)
    atexit.register(watch.close)  # before the group is left
    return activity


@functools.cache  # its buffer is a process's own on a device
def _direct_sum(device: torch.device, with_products: bool) -> DirectSum:
    return DirectSum(device, with_products)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@functools.cache
def _host_group() -> Any:
    """Return the group whose collectives are of the host: torch's own, where that is one of CPUs."""
    if "nccl" not in distributed.get_backend():
        return None
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


def divisors(numbers: Sequence[int]) -> list[int]:
    """Return the numbers that divide all of these, from 1 on."""
    most = min(numbers)
    return [count for count in range(1, most + 1) if all(number % count == 0 for number in numbers)]
