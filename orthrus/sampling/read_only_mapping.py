"""A mapping that nobody can change, for settings that requests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyMapping(Mapping[K, V]):
    """A copy of a mapping. Unlike `types.MappingProxyType` it can be pickled and copied, as settings have to be."""

    def __init__(self, values: Mapping[K, V]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: K) -> V:
        """Return the value of a key; raise KeyError if there is none."""
        return self._values[key]

    def __iter__(self) -> Iterator[K]:
        """Return the keys, in the order of the mapping that it is a copy of."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._values)

    def __repr__(self) -> str:
        """Return what a dict of the same is shown as."""
        return repr(self._values)
