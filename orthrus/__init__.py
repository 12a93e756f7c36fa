"""Lossless, faster decoding of language models, as a framework of plugins.

What needs torch is imported when it is first used, so that `import orthrus` is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from orthrus.errors import BuildError, ConfigError, DraftError, InputError, OrthrusError, PluginError
from orthrus.hookspecs import hookimpl
from orthrus.interfaces import AttentionBackend, Baseline, Drafter, KVCache, Source, Target, Tokenizer, Verifier
from orthrus.metrics import Measures, Summary, summarize
from orthrus.moved import MovedModules
from orthrus.options import option
from orthrus.prompts import read_prompts
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling, Stop
from orthrus.tally import Tally, Totals
from orthrus.values import (
    AttentionCapabilities,
    BaselineAnswer,
    Draft,
    DraftedTree,
    DraftShape,
    Event,
    LikeliestTokens,
    Location,
    MaskDescription,
    MaskedBlocks,
    PackedRows,
    Parts,
    Piece,
    Prompt,
    Result,
    RowState,
    ShownDraft,
    Step,
    TappedStates,
    TapPoint,
    TokenScores,
    Trial,
    Verdict,
)
from orthrus.watched import StepSeconds, WatchedGeneration, WatchedRow, WatchedStep

if TYPE_CHECKING:
    from orthrus.batch.context import Context
    from orthrus.batch.detokenizer import Detokenizer as Detokenizer
    from orthrus.batch.detokenizer import byte_tokens as byte_tokens
    from orthrus.batch.request import Request, Row
    from orthrus.batch.scheduler import Scheduler
    from orthrus.batch.turn import Turn, check_turn
    from orthrus.build import find_source, load, read_config, read_sections
    from orthrus.chance import Chance
    from orthrus.config.schema import Config
    from orthrus.decoder import Decoder, Stream
    from orthrus.drafting.auto_block import AutoBlock
    from orthrus.drafting.auto_cycle import AutoCycle
    from orthrus.drafting.auto_tree import AutoTree
    from orthrus.drafting.draft_pass import run_draft_pass
    from orthrus.files import cache_directory as cache_directory
    from orthrus.files import fingerprint_files as fingerprint_files
    from orthrus.files import fingerprint_weights as fingerprint_weights
    from orthrus.files import weight_files as weight_files
    from orthrus.hookspecs import Register as Register
    from orthrus.optional import DraftingTarget as DraftingTarget
    from orthrus.optional import DraftPass as DraftPass
    from orthrus.optional import DualPass as DualPass
    from orthrus.optional import TrainableTarget as TrainableTarget
    from orthrus.optional import ViewTarget as ViewTarget
    from orthrus.session import Session
    from orthrus.terminal import console, echo

__all__ = [
    "AttentionBackend",
    "AttentionCapabilities",
    "AutoBlock",
    "AutoCycle",
    "AutoTree",
    "Baseline",
    "BaselineAnswer",
    "BuildError",
    "Chance",
    "Config",
    "ConfigError",
    "Context",
    "Decoder",
    "Draft",
    "DraftError",
    "DraftShape",
    "DraftedTree",
    "Drafter",
    "Event",
    "InputError",
    "KVCache",
    "LikeliestTokens",
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
    "Request",
    "Result",
    "Row",
    "RowState",
    "Sampling",
    "Scheduler",
    "Session",
    "ShownDraft",
    "Source",
    "Step",
    "StepSeconds",
    "Stop",
    "Stream",
    "Summary",
    "Tally",
    "TapPoint",
    "TappedStates",
    "Target",
    "TokenScores",
    "Tokenizer",
    "Totals",
    "Trial",
    "Turn",
    "Verdict",
    "Verifier",
    "WatchedGeneration",
    "WatchedRow",
    "WatchedStep",
    "check_turn",
    "console",
    "echo",
    "find_source",
    "hookimpl",
    "load",
    "option",
    "read_config",
    "read_prompts",
    "read_sections",
    "run_draft_pass",
    "summarize",
]

_LAZY = {
    "AutoBlock": "drafting.auto_block",
    "AutoCycle": "drafting.auto_cycle",
    "AutoTree": "drafting.auto_tree",
    "Chance": "chance",
    "Config": "config.schema",
    "Context": "batch.context",
    "Decoder": "decoder",
    "Request": "batch.request",
    "Row": "batch.request",
    "Scheduler": "batch.scheduler",
    "Stream": "decoder",
    "Session": "session",
    "Turn": "batch.turn",
    "check_turn": "batch.turn",
    "console": "terminal",
    "echo": "terminal",
    "find_source": "build",
    "load": "build",
    "read_config": "build",
    "read_sections": "build",
    "run_draft_pass": "drafting.draft_pass",
}
REEXPORTED = {  # names that have a module of their own for their readers, and stay importable from here
    "Detokenizer": "batch.detokenizer",
    "DraftPass": "optional",
    "DraftingTarget": "optional",
    "DualPass": "optional",
    "Register": "hookspecs",
    "byte_tokens": "batch.detokenizer",
    "TrainableTarget": "optional",
    "ViewTarget": "optional",
    "cache_directory": "files",
    "fingerprint_files": "files",
    "fingerprint_weights": "files",
    "open_to_readers": "unfinished_files",
    "path_exists": "files",
    "unfinished": "unfinished_files",
    "weight_files": "files",
}

sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name) or REEXPORTED.get(name)
    if module is None:
        raise AttributeError(f"module 'orthrus' has no attribute '{name}'")
    return getattr(importlib.import_module(f"orthrus.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
