"""Lossless, faster decoding of language models, as a framework of plugins.

What needs torch is imported when it is first used, so that `import orthrus` is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from orthrus.errors import BuildError, ConfigError, DraftError, InputError, OrthrusError, PluginError
from orthrus.hookspecs import Register, hookimpl
from orthrus.interfaces import AttentionBackend, Baseline, Drafter, KVCache, Source, Target, Tokenizer, Verifier
from orthrus.metrics import Measures, Summary, summarize
from orthrus.moved import MovedModules
from orthrus.optional import DraftingTarget, DraftPass, DualPass, TrainableTarget, ViewTarget
from orthrus.options import option
from orthrus.prompts import read_prompts
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling, Stop
from orthrus.values import (
    AttentionCapabilities,
    BaselineAnswer,
    Draft,
    Location,
    MaskDescription,
    MaskedBlocks,
    PackedRows,
    Parts,
    Piece,
    Prompt,
    Result,
    RowState,
    Step,
    Verdict,
)

if TYPE_CHECKING:
    from orthrus.batch.context import Context, Row, check_turn
    from orthrus.batch.scheduler import Scheduler
    from orthrus.build import find_source, load, read_sections
    from orthrus.chance import Chance
    from orthrus.decoder import Decoder, Stream
    from orthrus.drafting.auto_block import AutoBlock
    from orthrus.drafting.draft_pass import run_draft_pass
    from orthrus.files import cache_directory, fingerprint_files, fingerprint_weights, path_exists, weight_files
    from orthrus.terminal import console, echo
    from orthrus.unfinished_files import open_to_readers, unfinished

__all__ = [
    "AttentionBackend",
    "AttentionCapabilities",
    "AutoBlock",
    "Baseline",
    "BaselineAnswer",
    "BuildError",
    "Chance",
    "ConfigError",
    "Context",
    "Decoder",
    "Draft",
    "DraftError",
    "DraftPass",
    "Drafter",
    "DraftingTarget",
    "DualPass",
    "InputError",
    "KVCache",
    "Location",
    "MaskDescription",
    "MaskedBlocks",
    "Measures",
    "OrthrusError",
    "PackedRows",
    "Parts",
    "Piece",
    "PluginError",
    "Plugins",
    "Prompt",
    "Register",
    "Result",
    "Row",
    "RowState",
    "Sampling",
    "Scheduler",
    "Source",
    "Step",
    "Stop",
    "Stream",
    "Summary",
    "Target",
    "Tokenizer",
    "TrainableTarget",
    "Verdict",
    "Verifier",
    "ViewTarget",
    "cache_directory",
    "check_turn",
    "console",
    "echo",
    "find_source",
    "fingerprint_files",
    "fingerprint_weights",
    "hookimpl",
    "load",
    "open_to_readers",
    "option",
    "path_exists",
    "read_prompts",
    "read_sections",
    "run_draft_pass",
    "summarize",
    "unfinished",
    "weight_files",
]

_LAZY = {
    "AutoBlock": "drafting.auto_block",
    "Chance": "chance",
    "Context": "batch.context",
    "Decoder": "decoder",
    "Row": "batch.context",
    "Scheduler": "batch.scheduler",
    "Stream": "decoder",
    "cache_directory": "files",
    "check_turn": "batch.context",
    "console": "terminal",
    "echo": "terminal",
    "find_source": "build",
    "fingerprint_files": "files",
    "fingerprint_weights": "files",
    "load": "build",
    "open_to_readers": "unfinished_files",
    "path_exists": "files",
    "read_sections": "build",
    "run_draft_pass": "drafting.draft_pass",
    "unfinished": "unfinished_files",
    "weight_files": "files",
}

sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'orthrus' has no attribute '{name}'")
    return getattr(importlib.import_module(f"orthrus.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
