"""Options of the verifiers; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orthrus import Config


@dataclass(frozen=True)
class ConsensusOptions:
    """No options: greedy agreement has none."""

    def conflicts(self, config: Config) -> Iterator[tuple[str, str]]:
        """Yield a problem if the config wants to sample."""
        if config.sampling.temperature > 0:
            temperature = f"{config.sampling.temperature:g}"
            yield (
                "sampling.temperature",
                f"must be 0 with verifier 'consensus', which decodes greedily, not {temperature};"
                " to sample, name 'coupled' or 'rejection'",
            )
