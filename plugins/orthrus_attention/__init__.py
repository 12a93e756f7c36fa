"""Attention backends, chosen once by name."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_attention_backends(register: Register) -> None:
    register("eager", "orthrus_attention.eager:make")
    register("flash", "orthrus_attention.flash:make")
    register("sdpa", "orthrus_attention.sdpa:make")
    register("split", "orthrus_attention.split:make")
