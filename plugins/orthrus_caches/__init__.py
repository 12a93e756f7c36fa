"""KV caches for rows of different lengths."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_caches(register: Register) -> None:
    register("dynamic", "orthrus_caches.dynamic:make")
    register("offloaded", "orthrus_caches.offloaded:make", options="orthrus_caches.options:OffloadedOptions")
    register("paged", "orthrus_caches.paged:make", options="orthrus_caches.options:PagedOptions")
    register("quantized", "orthrus_caches.quantized:make", options="orthrus_caches.options:QuantizedOptions")
    register("static", "orthrus_caches.static:make", options="orthrus_caches.options:StaticOptions")
