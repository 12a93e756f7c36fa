"""The cache `offloaded`: keys and values in memory of the host, fetched layer by layer. B: rows, R: rows of a pass.

n: columns of a pass, H: heads of keys, D: size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Parts
from orthrus_caches.buffers import moved_lengths
from orthrus_caches.host_layers import HostLayers
from orthrus_caches.layer_fetcher import LayerFetcher, Runs
from orthrus_caches.options import OffloadedOptions


class OffloadedCache:
    """Keep the key of the token at position p in slot p of its row, in memory of the host.

    A pass on a GPU gets each layer's keys and values in one of two buffers there, which the next layer's are copied
    into beside; what it writes is copied back. The host must know the slots of a pass, so it waits for them once a
    pass. On a CPU passes read and write the buffers themselves. Buffers start as zeros: a masked slot that held NaN
    would still spoil a sum.
    """

    moves_rows = True

    def __init__(self, pinned: bool = True) -> None:
        """Hold nothing. pinned: whether memory of the host is page-locked, where passes run on a GPU."""
        self.lengths = torch.zeros(0, dtype=torch.int64)  # [B]
        self._pinned = pinned
        self._layers = HostLayers(False)
        self._fetcher: LayerFetcher | None = None
        self._slots = torch.zeros(0, 0, dtype=torch.int64)  # [R, n]
        self._rows: Sequence[int] = ()  # of the pass
        self._runs: Runs = ()
        self._extent = 0
        self._order: list[int] = []  # in which passes come to layers
        self._reached = 0  # how many layers this pass has come to

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        self._wait()
        before, self.lengths = self.lengths.device, torch.zeros(rows, dtype=torch.int64, device=device)
        if device.type == "cpu":
            self._fetcher = None
        elif self._fetcher is None or self.lengths.device != before:
            self._fetcher = LayerFetcher(self.lengths.device)
        self._layers = HostLayers(self._pinned and self._fetcher is not None)
        self._layers.clear(rows)
        self._forget_pass()

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        before, self.lengths = len(self.lengths), moved_lengths(self.lengths, sources)
        if len(sources) == before and all(source in (row, -1) for row, source in enumerate(sources)):
            return
        self._wait()
        self._layers.move_rows(list(sources))
        self._forget_pass()

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the extent. Its first layer is fetched."""
        self._slots, self._extent = slots, extent
        on_host: list[list[int]] = (slots if rows is None else torch.cat([slots, rows[:, None]], 1)).tolist()
        self._rows = range(len(self.lengths)) if rows is None else [row.pop() for row in on_host]
        self._runs = list(_runs(self._rows, on_host))
        if extent > self._layers.capacity:
            self._wait()
            self._layers.hold(extent)
        self._forget_pass(keep_order=True)
        self._fetch_next()
        return extent

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return all that the layer holds: [R, H, extent, D].

        On a GPU they are good until the pass comes to the second layer after this one.
        """
        pair = self._layers.pair(layer, keys, values)
        if self._fetcher is None:
            key, value = self._on_host(pair[0], keys), self._on_host(pair[1], values)
            return key, value
        self._note(layer)
        staged = self._fetcher.staged(layer, pair, self._rows, self._extent)
        self._fetch_next()
        for target, states in zip(staged, (keys, values), strict=True):
            index = self._slots[:, :, None, None].expand(-1, -1, *target.shape[2:])
            target.scatter_(1, index, states.transpose(1, 2))
        self._fetcher.write_back(staged, pair, self._runs)
        return staged[0].transpose(1, 2), staged[1].transpose(1, 2)

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row."""
        self.lengths = lengths

    def bytes_in_use(self) -> int:
        """Return the bytes of all buffers, on the host and, where passes run on a GPU, of the two there."""
        return sum(buffer.nbytes for buffer in self._layers.buffers()) + self.bytes_on_device

    @property
    def bytes_on_device(self) -> int:
        """The bytes of the buffers on a GPU; 0 on a CPU."""
        return 0 if self._fetcher is None else self._fetcher.bytes_on_device

    def _on_host(self, buffer: Tensor, states: Tensor) -> Tensor:
        """Write [R, H, n, D] into a buffer [B, C, H, D]; return what its rows hold [R, H, extent, D]."""
        if isinstance(self._rows, range):  # all of them
            index = self._slots[:, :, None, None].expand(-1, -1, *buffer.shape[2:])
            buffer.scatter_(1, index, states.transpose(1, 2))
            return buffer[:, : self._extent].transpose(1, 2)
        rows = torch.tensor(self._rows)
        buffer[rows[:, None], self._slots] = states.transpose(1, 2)
        return buffer[rows, : self._extent].transpose(1, 2)

    def _note(self, layer: int) -> None:
        """Note which layer a pass has come to, so that the next pass knows what comes after it."""
        if self._reached < len(self._order) and self._order[self._reached] == layer:
            self._reached += 1
        elif layer in self._order[: self._reached]:
            return  # once more: it is there, or is fetched again
        else:
            self._order[self._reached :] = [layer]
            self._reached += 1

    def _fetch_next(self) -> None:
        """Fetch the layer that comes after the one that a pass has come to, if there is one."""
        if self._fetcher is None or self._reached >= len(self._order):
            return
        layer = self._order[self._reached]
        if (pair := self._layers.known(layer)) is not None:
            self._fetcher.fetch(layer, pair, self._rows, self._extent)

    def _forget_pass(self, keep_order: bool = False) -> None:
        self._reached = 0
        if not keep_order:
            self._order = []
        if self._fetcher is not None:
            self._fetcher.forget()

    def _wait(self) -> None:
        if self._fetcher is not None:
            self._fetcher.wait()


def _runs(rows: Sequence[int], slots: Sequence[Sequence[int]]) -> Runs:
    """Return the slots that each row of a pass writes, from the first to the last: what lies between stays as it is."""
    return [
        (index, row, min(places), max(places) + 1) for index, (row, places) in enumerate(zip(rows, slots, strict=True))
    ]


def make(options: OffloadedOptions, parts: Parts) -> OffloadedCache:
    """Return the cache."""
    return OffloadedCache(options.pinned)
