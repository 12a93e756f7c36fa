"""The drafter that proposes nothing: plain decoding, the baseline of every comparison."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("none", "orthrus_plain.none:make")
