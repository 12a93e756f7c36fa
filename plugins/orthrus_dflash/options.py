"""Options of the drafter; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import option


@dataclass(frozen=True)
class DFlashOptions:
    """Options of the drafter `dflash`: its checkpoint, how much it drafts, and what a checkpoint may leave open."""

    source: str = option(help="a DFlash checkpoint in z-lab's layout or that of speculators: a directory or a hub id")
    block: int | None = option(
        None,
        minimum=2,
        maximum=1024,
        help="anchor and drafts of a cycle: one more than the drafts; null: what the drafter was trained with, which is"
        " also the most",
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = option(
        "auto", help="dtype of the drafter's weights; auto: the target's"
    )
    layer_ids: Literal["outputs", "boundaries"] | None = option(
        None,
        help="what a layer id k in the checkpoint's config means: the output of layer k, or the boundary k, which is"
        " what enters layer k; null: as its layout does, outputs in z-lab's and boundaries in that of speculators",
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
    is_causal: bool | None = option(
        None, help="whether rows of a block see only rows before them, in all layers; null: as the config says"
    )
    use_sliding_window: bool | None = option(
        None,
        help="whether sliding layers have their window; to be given where layer_types and use_sliding_window in the"
        " config contradict each other",
    )
    window_from: Literal["row", "anchor"] | None = option(
        None,
        help="where a sliding window is counted from: each row of a block, as z-lab's does, or the anchor, as"
        " speculators trains; to be given for sliding layers in the layout of speculators",
    )
    sample_from_anchor: bool = option(
        False,
        help="whether a row of a block predicts the token after it, so that the anchor's own row drafts the first one;"
        " false: the token in its place",
    )
    mask_token_id: int | None = option(
        None, minimum=0, help="token that stands where one is to be drafted; null: as the config says"
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
    allow_ordinary_mask: bool = option(False, help="use a drafter whose mask is a token of ordinary text")
