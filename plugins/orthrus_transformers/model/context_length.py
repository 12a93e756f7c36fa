"""The usable context length: the config's, and below the point where `longrope` switches its angles.

Rotary positions of type `longrope` have two sets of angles, and a pass that goes beyond the length that the model was
first trained on takes the other one for all its tokens. A draft, another row or padding would decide what a token sees.
Positions of type `linear` and `yarn` are the original ones drawn out by a factor; many configs leave
`max_position_embeddings` at the original length (Qwen2.5's card says so), and the text may be longer by that factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ORIGINAL = "original_max_position_embeddings"
STRETCHED = ("linear", "yarn")


def max_length(model: Any) -> int | None:
    """Return how many positions the model can take in any pass alike, or None if its config does not say."""
    config = model.config.get_text_config()
    return _least([_whole(config), *_original_lengths(config)])


def ends_early(model: Any) -> str | None:
    """Return a sentence on why texts end before the model's context does; None if they do not."""
    length = max_length(model)
    if length == _least([_whole(model.config.get_text_config())]):
        return None
    return (
        f"model type '{model.config.model_type}' has other rotary positions (longrope) for all tokens of a pass that"
        f" goes beyond {length}, so prompt and answer together end there"
    )


def _whole(config: Any) -> Any:
    """Return the context that a config names, or that its positions are drawn out to, if that is more."""
    named = getattr(config, "max_position_embeddings", None)
    angles = _angles(config)
    kind, factor = angles.get("rope_type", angles.get("type")), angles.get("factor")
    if not isinstance(named, int) or kind not in STRETCHED or not isinstance(factor, (int, float)):
        return named
    original = angles.get(ORIGINAL) or named
    if original > named or "long_factor" in angles:  # cut short on purpose; or longrope, as older code calls it
        return named
    return max(named, int(original * factor))


def _angles(config: Any) -> Mapping[str, Any]:
    return getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}


def _original_lengths(config: Any) -> Iterator[Any]:
    """Yield how far the first set of angles goes; configs say it with the angles, beside them, or in both places."""
    angles = _angles(config)
    for rope in (angles, *angles.values()):  # for all layers, or by the type of a layer
        if isinstance(rope, dict) and "long_factor" in rope and rope["long_factor"] != rope.get("short_factor"):
            yield from (rope.get(ORIGINAL), getattr(config, ORIGINAL, None))  # whatever older configs call the type


def _least(lengths: Iterable[Any]) -> int | None:
    return min((length for length in lengths if isinstance(length, int) and length > 0), default=None)
