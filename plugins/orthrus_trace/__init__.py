"""The watcher `trace`, which writes every step to a file, and the command `orthrus trace`, which draws it."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_watchers(register: Register) -> None:
    register("trace", "orthrus_trace.watcher:make", options="orthrus_trace.options:TraceOptions")


@hookimpl
def register_commands(register: Register) -> None:
    register("trace", "orthrus_trace.command:trace")
