"""The drafter `medusa`, a plugin of Orthrus."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    """Register the drafter and its options; what is written as a place is imported when a config chooses it."""
    register("medusa", "orthrus_medusa.drafter:make", options="orthrus_medusa.options:Options")
