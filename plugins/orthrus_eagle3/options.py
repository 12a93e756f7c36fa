"""Options of the drafter; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import option


@dataclass(frozen=True)
class Eagle3Options:
    """Options of the drafter `eagle3`: its checkpoint, how much it drafts, and what a checkpoint may leave open."""

    source: str = option(help="an EAGLE-3 head in SafeAILab's layout or that of speculators: a directory or a hub id")
    length: int = option(5, minimum=1, maximum=64, help="draft tokens a cycle; each one takes a step of the drafter")
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = option(
        "auto", help="dtype of the drafter's weights; auto: the target's"
    )
    norm_before_residual: bool | None = option(
        None,
        help="whether the residual stream begins with the normed feature; to be given where a checkpoint in the layout"
        " of speculators does not say, since programs differ; null: as the config says",
    )
    norm_output: bool | None = option(
        None,
        help="whether a step goes on from the state after the drafter's final norm; null: as the config says, which is"
        " false in SafeAILab's layout",
    )
    layer_ids: Literal["outputs", "boundaries"] | None = option(
        None,
        help="what a layer id k in the checkpoint's config means: the output of layer k, or the boundary k, which is"
        " what enters layer k; to be given for ids in SafeAILab's layout; null: boundaries in that of speculators",
    )
    boundaries: tuple[int, ...] | None = option(
        None,
        minimum=0,
        help="boundaries between the target's layers that are tapped, in place of the config's ids; as many as it has"
        " layers: after its final norm",
    )
    final_norm: bool = option(
        True,
        help="whether what is tapped after the target's last layer is read after its final norm, as transformers gives"
        " it; false: before that, for a drafter whose training recorded it there",
    )
    rope_theta: float | None = option(
        None,
        minimum=1.0,
        maximum=1e12,
        help="base of the drafter's rotary positions; null: as the config says, or 10000",
    )
    position_offset: int = option(
        0,
        minimum=-1,
        maximum=1,
        help="by how much the rotary positions of what is drafted are more than those of the text before it go on to",
    )
