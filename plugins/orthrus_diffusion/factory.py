"""The factory of the drafter `diffusion`: its view, attached to the target, and what the options make of it."""

from __future__ import annotations

from pathlib import Path

from orthrus import BuildError, Parts
from orthrus.one_pass import JoinsBlocks
from orthrus.optional import ViewTarget
from orthrus_diffusion.auto_cycle import AutoCycleDiffusion
from orthrus_diffusion.drafter import VIEW, Diffusion
from orthrus_diffusion.one_pass import DRAFTS, OnePassDiffusion
from orthrus_diffusion.options import DiffusionOptions
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.view_files.config import ViewConfig
from orthrus_diffusion.view_files.formats import attach, attach_copies, read_head, state_of
from orthrus_diffusion.view_files.shipped import find_view

COPIES = "copies"  # of the model's own attention, untrained
MOST_NODES = 63  # of a tree of a size that is chosen: with the anchor as many as kernels of trees take


def make(options: DiffusionOptions, parts: Parts) -> Diffusion | AutoCycleDiffusion:
    """Return the drafter with its view attached to the target; raise BuildError or InputError if it cannot be."""
    target: ViewTarget = parts.target
    if "views" not in target.capabilities:
        raise BuildError(
            f"drafter 'diffusion' needs views, which target '{type(target).__name__}' does not offer;"
            " set target.name=transformers"
        )
    name, view_config, head = _attached(target, options, parts)
    if options.cycle == "one_pass":
        block = options.block if isinstance(options.block, int) else min(DRAFTS + 1, view_config.block)
        return OnePassDiffusion(target, block, view_config.mask_token_id, name, successor=head)
    used = options.tree is not None or options.successor != "auto"
    two_passes = _two_passes(target, options, view_config, name, head if used else None, parts)
    if options.cycle == "two_passes":
        return two_passes
    block = min(DRAFTS + 1, two_passes.block)
    one_pass = OnePassDiffusion(target, block, view_config.mask_token_id, name, successor=head)
    if isinstance(target, JoinsBlocks) and target.joins_blocks(1, one_pass.blocks_of(block - 1)):
        return AutoCycleDiffusion(target, two_passes, one_pass, notify=parts.notify)
    return two_passes  # one pass would take as long


def _two_passes(
    target: ViewTarget,
    options: DiffusionOptions,
    view_config: ViewConfig,
    name: str,
    head: SuccessorHead | None,
    parts: Parts,
) -> Diffusion:
    block = options.block if isinstance(options.block, int) else view_config.block
    auto, tree = "auto" in (options.block, options.tree), MOST_NODES if options.tree == "auto" else options.tree
    mask, notify = view_config.mask_token_id, parts.notify
    return Diffusion(target, block, mask, name, auto=auto, tree=tree, successor=head, notify=notify)


def _attached(
    target: ViewTarget, options: DiffusionOptions, parts: Parts
) -> tuple[str, ViewConfig, SuccessorHead | None]:
    """Return the name and config of the view, attached, and its head; decoders that share a target share its views."""
    if options.view == COPIES and not Path(COPIES).exists():
        return COPIES, attach_copies(target, COPIES), None
    directory = find_view(options.view, parts) if options.view is not None else None
    name = f"{VIEW} {directory.resolve()} {state_of(directory)}" if directory else VIEW
    view_config = attach(target, name, directory, allow_ordinary_mask=options.allow_ordinary_mask)
    pays = target.device.type != "cpu" and (options.tree is not None or options.cycle != "two_passes")
    used = pays if options.successor == "auto" else options.successor
    return name, view_config, read_head(target, name, directory) if used else None
