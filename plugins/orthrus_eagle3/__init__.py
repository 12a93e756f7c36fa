"""The drafter `eagle3`: published heads draft token by token from hidden states (arXiv 2503.01840)."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("eagle3", "orthrus_eagle3.drafter:make", options="orthrus_eagle3.options:Eagle3Options")
