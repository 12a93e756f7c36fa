"""The command `serve`: a decoder behind the HTTP interface of OpenAI. Decoding runs in a process of its own."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_commands(register: Register) -> None:
    register("serve", "orthrus_serve.command:serve")
