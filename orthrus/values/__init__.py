"""Frozen values that cross interfaces.

May import: errors, metrics, paths.
"""

from orthrus.values.drafts import Draft, DraftedTree, DraftShape, LikeliestTokens, Trial, Verdict
from orthrus.values.parts import Location, Parts
from orthrus.values.passes import AttentionCapabilities, MaskDescription, RowState
from orthrus.values.prompts import Message, Prompt
from orthrus.values.results import BaselineAnswer, Event, Piece, Result, ShownDraft
from orthrus.values.steps import FinishReason, Step, TokenScores
from orthrus.values.taps import TappedStates, TapPoint
from orthrus.values.training import MaskedBlocks, PackedRows

__all__ = [
    "AttentionCapabilities",
    "BaselineAnswer",
    "Draft",
    "DraftShape",
    "DraftedTree",
    "Event",
    "FinishReason",
    "LikeliestTokens",
    "Location",
    "MaskDescription",
    "MaskedBlocks",
    "Message",
    "PackedRows",
    "Parts",
    "Piece",
    "Prompt",
    "Result",
    "RowState",
    "ShownDraft",
    "Step",
    "TapPoint",
    "TappedStates",
    "TokenScores",
    "Trial",
    "Verdict",
]
