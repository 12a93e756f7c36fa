"""Abilities that a part may have besides what its interface asks for; whoever wants one asks by `isinstance`.

Each is as small as the question. Asking looks at all members, so those that are attributes must cost nothing to read;
from Python 3.12 on a member that `__getattr__` gives is not seen: a part that wraps another one has them itself.

May import: batch, chance, interfaces, values.
"""

from orthrus.optional.caches import LendsBuffers, PlacesAdjacentRows, SharesPrefixes, StaticKVCache, TracksRows
from orthrus.optional.drafters import DraftsAhead, OffersTrials, PrefixConsistent, ReadsLikeliest
from orthrus.optional.parts import HasFingerprint, Named, Reports, name_of
from orthrus.optional.rows import BoundsRows, BoundsSlots, FreesRows, MovesRows, PrefillsInChunks, RestoresPrefixes
from orthrus.optional.taps import ReadsTaps, TappedTarget, TapReader
from orthrus.optional.targets import (
    HasDtype,
    HasModelPath,
    HasPassIdentity,
    HoldsCache,
    LoadedTarget,
    MeasuredTarget,
    ScoresTexts,
    TakesTurns,
    WidenedTarget,
)
from orthrus.optional.tokenizers import DescribesTokens, HasSpecialTokens, HasVocabulary
from orthrus.optional.training import DualPass, TrainableTarget
from orthrus.optional.verifiers import CoupledVerifier, is_coupled
from orthrus.optional.views import DraftingTarget, DraftPass, ViewTarget

__all__ = [
    "BoundsRows",
    "BoundsSlots",
    "CoupledVerifier",
    "DescribesTokens",
    "DraftPass",
    "DraftingTarget",
    "DraftsAhead",
    "DualPass",
    "FreesRows",
    "HasDtype",
    "HasFingerprint",
    "HasModelPath",
    "HasPassIdentity",
    "HasSpecialTokens",
    "HasVocabulary",
    "HoldsCache",
    "LendsBuffers",
    "LoadedTarget",
    "MeasuredTarget",
    "MovesRows",
    "Named",
    "OffersTrials",
    "PlacesAdjacentRows",
    "PrefillsInChunks",
    "PrefixConsistent",
    "ReadsLikeliest",
    "ReadsTaps",
    "Reports",
    "RestoresPrefixes",
    "ScoresTexts",
    "SharesPrefixes",
    "StaticKVCache",
    "TakesTurns",
    "TapReader",
    "TappedTarget",
    "TracksRows",
    "TrainableTarget",
    "ViewTarget",
    "WidenedTarget",
    "is_coupled",
    "name_of",
]
