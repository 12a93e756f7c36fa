"""Attention backends, chosen once by name."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_attention_backends(register: Register) -> None:
    register("eager", "orthrus_attention.eager:make")
    register("flash", "orthrus_attention.flash:make")
    register("flash_attention_2", "orthrus_attention.flash_packages:make_2")
    register("flash_attention_3", "orthrus_attention.flash_packages:make_3")
    register("flash_attention_4", "orthrus_attention.flash_packages:make_4")
    register("flex", "orthrus_attention.flex:make")
    register("sdpa", "orthrus_attention.sdpa:make")
    register("split", "orthrus_attention.split_kv:make")
