"""The compiled kernels as Python sees them: structures and functions, as `source/` declares them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from pathlib import Path

from orthrus import BuildError
from orthrus_transformers.native.compiler import built_library, library_key, usable_compiler


class MatrixStructure(Structure):
    """`Matrix`: addresses are of memory that somebody else holds."""

    _fields_ = (
        *((name, c_int64) for name in ("kind", "rows", "columns")),
        ("data", c_void_p),
        ("bias", c_void_p),
        ("bias_kind", c_int64),
    )


class LayerStructure(Structure):
    """`Layer`."""

    _fields_ = (
        *((name, MatrixStructure) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, MatrixStructure) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        ("window", c_int64),
    )


class ModelStructure(Structure):
    """`Model`."""

    _fields_ = (
        *((name, c_int64) for name in ("hidden", "inner", "heads", "key_heads", "head_size", "vocabulary")),
        ("epsilon", c_float),
        ("scale", c_float),
        ("embedding", MatrixStructure),
        ("head", MatrixStructure),
        ("norm", MatrixStructure),
    )


class PassStructure(Structure):
    """`Pass`."""

    _fields_ = (
        ("layers", POINTER(LayerStructure)),
        ("layer_count", c_int64),
        ("rows", c_int64),
        ("width", c_int64),
        *((name, c_void_p) for name in ("tokens", "slots", "positions", "row_numbers", "lengths", "paths", "ends")),
        ("block", c_int64),
        ("first_projected", c_int64),
        ("projected", c_int64),
        *((name, c_void_p) for name in ("logits", "keys", "values")),
        ("row_stride", c_int64),
        ("head_stride", c_int64),
        ("slots_held", c_int64),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("angles", c_int64),
        ("taps", c_void_p),
        ("tap_stride", c_int64),
        ("rounded", c_int64),
        ("head", POINTER(MatrixStructure)),
    )


SIGNATURES = {
    "orthrus_lanes": (c_int64, ()),
    "orthrus_packed_bytes": (c_int64, (c_int64, c_int64, c_int64)),
    "orthrus_pack": (None, (c_int64, c_int64, c_int64, c_void_p, c_void_p, c_void_p)),
    "orthrus_widen_row": (None, (POINTER(MatrixStructure), c_int64, c_void_p)),
    "orthrus_multiply": (None, (POINTER(MatrixStructure), c_void_p, c_int64, c_int64, c_void_p)),
    "orthrus_new_decoder": (c_void_p, (POINTER(ModelStructure), c_int64)),
    "orthrus_delete_decoder": (None, (c_void_p,)),
    "orthrus_run": (None, (c_void_p, POINTER(PassStructure))),
}


class Kernels(ctypes.CDLL):
    """The library; `key` tells it from those of other sources, flags, compilers and CPUs."""

    key: str


LOADED: dict[str, Kernels] = {}  # by key: a library cannot be loaded anew, so that there is one a process


def load_library(notify: Callable[[str], None]) -> Kernels:
    """Return the kernels, compiled first if need be; raise BuildError where they cannot be had."""
    compiler = usable_compiler()
    key = library_key(compiler)
    if key not in LOADED:
        LOADED[key] = _opened(built_library(compiler, key, notify))
        LOADED[key].key = key
    return LOADED[key]


def _opened(path: Path) -> Kernels:
    try:
        library = Kernels(str(path))
    except OSError as error:
        raise BuildError(f"cannot load its kernels from '{path}' ({error}); delete that file") from error
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
