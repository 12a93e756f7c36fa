"""The drafter `repeat`, registered by name; importing this imports no torch."""

from dataclasses import dataclass

from orthrus import hookimpl, option
from orthrus.hookspecs import Register


@dataclass(frozen=True)
class RepeatOptions:
    """Say how much is drafted."""

    length: int = option(4, minimum=1, help="most draft tokens a cycle")


@hookimpl
def register_drafters(register: Register) -> None:
    """Register the drafter."""
    register("repeat", "orthrus_repeat.drafter:make", options=RepeatOptions)
