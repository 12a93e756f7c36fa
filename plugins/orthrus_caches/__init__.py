"""KV caches for rows of different lengths."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_caches(register: Register) -> None:
    register("dynamic", "orthrus_caches.dynamic:make")
    register("paged", "orthrus_caches.paged:make", options="orthrus_caches.options:PagedOptions")
    register("static", "orthrus_caches.static:make", options="orthrus_caches.options:StaticOptions")
