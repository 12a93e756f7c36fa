"""Two halves of a file's prompts: what is accepted is learned on one, and speed measured on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orthrus.errors import InputError
from orthrus.prompts import PromptRecord


@dataclass(frozen=True)
class Halves:
    """Every second prompt each, so that a file in some order has both kinds in both; no prompt is in both.

    repeated: how many prompts of the file were left out, because they stand in it before.
    """

    learned: tuple[PromptRecord, ...]
    measured: tuple[PromptRecord, ...]
    repeated: int = 0

    @classmethod
    def of(cls, records: Sequence[PromptRecord]) -> Halves:
        """Return the halves; raise InputError for prompts that cannot be halved."""
        distinct = list({repr(record.prompt): record for record in reversed(records)}.values())[::-1]
        if len(distinct) < 2:
            raise InputError(
                "--prompts must hold two prompts at least that differ: one half says what is accepted, the other is"
                f" measured; there is {len(distinct)}"
            )
        return cls(tuple(distinct[0::2]), tuple(distinct[1::2]), len(records) - len(distinct))

    def check(self, batches: Sequence[int]) -> None:
        """Raise InputError if a half has fewer prompts than a batch has rows: it would not be that batch."""
        largest, smaller = max(batches), min(len(self.learned), len(self.measured))
        if largest > smaller:
            raise InputError(f"--batch {largest} needs as many prompts in each half of the file; there are {smaller}")
