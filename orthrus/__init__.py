"""Lossless, faster decoding of language models, as a framework of plugins.

Names are imported when they are first used, so that `import orthrus` is quick and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orthrus.hookspecs import hookimpl

if TYPE_CHECKING:
    from orthrus.build import load
    from orthrus.chance import Chance
    from orthrus.context import Context, Row
    from orthrus.decode import decode
    from orthrus.decoder import Decoder, Stream
    from orthrus.errors import BuildError, ConfigError, DraftError, InputError, OrthrusError, PluginError
    from orthrus.hookspecs import Register
    from orthrus.interfaces import AttentionBackend, Drafter, KVCache, Source, Target, Tokenizer, Verifier
    from orthrus.metrics import Measures, Summary, summarize
    from orthrus.options import option
    from orthrus.plugins import Plugins
    from orthrus.types import (
        AttentionCapabilities,
        Draft,
        Location,
        MaskDescription,
        Parts,
        Piece,
        Prompt,
        Result,
        Sampling,
        Step,
        Stop,
        Verdict,
    )

_PLACES = {
    "build": ["load"],
    "chance": ["Chance"],
    "context": ["Context", "Row"],
    "decode": ["decode"],
    "decoder": ["Decoder", "Stream"],
    "errors": ["BuildError", "ConfigError", "DraftError", "InputError", "OrthrusError", "PluginError"],
    "hookspecs": ["Register"],
    "interfaces": ["AttentionBackend", "Drafter", "KVCache", "Source", "Target", "Tokenizer", "Verifier"],
    "metrics": ["Measures", "Summary", "summarize"],
    "options": ["option"],
    "plugins": ["Plugins"],
    "types": [
        "AttentionCapabilities",
        "Draft",
        "Location",
        "MaskDescription",
        "Parts",
        "Piece",
        "Prompt",
        "Result",
        "Sampling",
        "Step",
        "Stop",
        "Verdict",
    ],
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = ["hookimpl", *_MODULE_OF]  # noqa: PLE0604  # names of the table above; a test compares it with the imports


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'orthrus' has no attribute '{name}'")
    return getattr(importlib.import_module(f"orthrus.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
