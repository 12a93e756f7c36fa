"""A drafter that knows the answer: for measuring speed where the weights of a real drafter are not at hand."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("replay", "orthrus_replay.replay:make", options="orthrus_replay.options:ReplayOptions")
