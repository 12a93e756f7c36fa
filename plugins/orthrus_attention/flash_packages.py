"""The attention backends `flash_attention_2`, `_3` and `_4`: FlashAttention's packages, where a user has them.

transformers says whether a package is there, so that a name means the same here as in transformers; the functions
called are the packages' own, with the slots in use of each row instead of a mask.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, BuildError, MaskDescription, Parts
from orthrus_attention.unsupported import refuse
from orthrus_attention.varlen import Lengths

Call = Callable[..., Any]


@dataclass(frozen=True)
class Package:
    """A FlashAttention package: where it is found and how it is called."""

    name: str
    package: str
    install: str
    check: str  # the function of transformers.utils that looks for it
    module: str
    function: str
    head_sizes: frozenset[int]
    sinks: bool = False

    @property
    def capabilities(self) -> AttentionCapabilities:
        """The capabilities of the package, installed or not."""
        return AttentionCapabilities(
            devices=frozenset({"cuda"}),
            dtypes=frozenset({"bfloat16", "float16"}),
            head_sizes=self.head_sizes,
            softcap=True,
            hides_any_value=False,  # the kernels multiply hidden values of a block by 0
            sinks=self.sinks,
        )


UP_TO_256 = frozenset(range(8, 257, 8))
TWO = Package(
    name="flash_attention_2",
    package="flash-attn",
    install="pip install flash-attn --no-build-isolation",
    check="is_flash_attn_2_available",
    module="flash_attn",
    function="flash_attn_with_kvcache",
    head_sizes=UP_TO_256,
)
THREE = Package(
    name="flash_attention_3",
    package="flash-attn-3",
    install="build the folder hopper of github.com/Dao-AILab/flash-attention",
    check="is_flash_attn_3_available",
    module="flash_attn_interface",
    function="flash_attn_with_kvcache",
    head_sizes=UP_TO_256,
)
FOUR = Package(
    name="flash_attention_4",
    package="flash-attn-4",
    install="pip install flash-attn-4 --pre",
    check="is_flash_attn_4_available",
    module="flash_attn.cute",
    function="flash_attn_varlen_func",
    head_sizes=frozenset({*range(8, 129, 8), 256}),
    sinks=True,
)


class PackageAttention:
    """Hand the cache's buffers, [B, slots, H, D] as these packages see them, to a package's function."""

    def __init__(self, package: Package, function: Call) -> None:
        self.capabilities = package.capabilities
        self._package, self.function = package, function

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Lengths:
        """Return the lengths: [B]; no mask is built."""
        return Lengths.of(mask, window)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Lengths,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [B, H, n, D]; raise BuildError for a model with sinks where the package has none."""
        if not self._package.sinks:
            refuse(self._package.name, None, sinks)
        more: dict[str, Any] = {} if softcap is None else {"softcap": softcap}
        arguments = _of_varlen if self._package is FOUR else _of_cache
        out = self.function(
            *(states.transpose(1, 2) for states in (query, key, value)),
            softmax_scale=scale,
            causal=prepared.causal,
            **arguments(prepared, sinks),
            **more,
        )
        first: Tensor = out[0] if isinstance(out, tuple) else out  # some give the softmax's sums too
        return first.transpose(1, 2)


def _of_cache(lengths: Lengths, sinks: Tensor | None) -> dict[str, Any]:
    return {"cache_seqlens": lengths.used, "window_size": lengths.sides}


def _of_varlen(lengths: Lengths, sinks: Tensor | None) -> dict[str, Any]:
    sides = tuple(None if side < 0 else side for side in lengths.sides)  # here None is no limit
    return {"seqused_k": lengths.used, "window_size": sides, "learnable_sink": sinks}


def load(package: Package) -> PackageAttention:
    """Return the backend; raise BuildError, naming the package, where it or transformers is missing."""
    try:
        utils = importlib.import_module("transformers.utils")
        if not getattr(utils, package.check, lambda: False)():
            raise ImportError("transformers does not find it, or no GPU")
        function = getattr(importlib.import_module(package.module), package.function)
    except (ImportError, AttributeError) as error:
        raise BuildError(
            f"attention '{package.name}' needs the package {package.package} ({package.install}) and a GPU: {error};"
            " set attention.name=split or sdpa"
        ) from error
    return PackageAttention(package, function)


def make_2(options: object, parts: Parts) -> PackageAttention:
    """Return FlashAttention 2."""
    return load(TWO)


def make_3(options: object, parts: Parts) -> PackageAttention:
    """Return FlashAttention 3."""
    return load(THREE)


def make_4(options: object, parts: Parts) -> PackageAttention:
    """Return FlashAttention 4."""
    return load(FOUR)
