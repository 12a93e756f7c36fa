"""The two layouts of a DFlash checkpoint's config: z-lab's and that of `speculators`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from orthrus import InputError, TapPoint
from orthrus.drafter_models.config_keys import WITHOUT_EFFECT, ConfigKeys, read_config_file
from orthrus.drafter_models.fit import TargetSizes, taps_from
from orthrus.drafter_models.rotary import read_rotary
from orthrus_dflash.config import DFlashConfig, LayerKind
from orthrus_dflash.options import DFlashOptions

THETA = 10000.0  # of both references, where a config gives none
SUCCESSORS = ("conv_", "selector_", "markov_", "confidence_")  # DFlash2, DSpark


def read_config(directory: Path, target: TargetSizes, options: DFlashOptions) -> DFlashConfig:
    """Return the config of a checkpoint for a target.

    Raises InputError if a key is missing, unknown or of a value that is not supported, or if the field reads it in
    several ways and the options do not say which; BuildError if the drafter was made for a target of other sizes.
    """
    values = read_config_file(directory)
    keys = ConfigKeys(values, directory / "config.json")
    _refuse_successors(keys, values)
    if "speculators_model_type" in values:
        config = _speculators(keys, target, options, directory)
    else:
        config = _z_lab(keys, target, options, directory)
    keys.finish()
    config = _with_options(config, options)
    config.check_fits(target, str(directory))
    if options.block is not None and options.block > config.block:
        raise InputError(f"block={options.block} is more than '{directory}' was trained with, {config.block}")
    return config


def _with_options(config: DFlashConfig, options: DFlashOptions) -> DFlashConfig:
    """Return the config with what the options say in its place."""
    theta, mask = options.rope_theta, options.mask_token_id
    return replace(
        config,
        rotary=config.rotary if theta is None else replace(config.rotary, theta=theta),
        mask_token_id=config.mask_token_id if mask is None else mask,
        from_anchor=options.sample_from_anchor,
        position_offset=options.position_offset,
    )


def _refuse_successors(keys: ConfigKeys, values: dict[str, Any]) -> None:
    """Refuse what DFlash's successors add, by name: without it their weights would draft something else."""
    inner = values.get("dflash_config")
    for section, held in ((keys, values), (keys.section("dflash_config"), inner if isinstance(inner, dict) else {})):
        for key in held:
            if key.startswith(SUCCESSORS):
                raise section.refusal(key, "belongs to DFlash2 or DSpark, which are not supported")


def _z_lab(keys: ConfigKeys, target: TargetSizes, options: DFlashOptions, directory: Path) -> DFlashConfig:
    inner = keys.section("dflash_config")
    architectures = keys.words("architectures", ("DFlashDraftModel",))
    if architectures != ("DFlashDraftModel",):
        raise keys.refusal("architectures", "is not ['DFlashDraftModel'], the architecture of DFlash")

    def either(key: str) -> ConfigKeys:
        """Return where a key is: within `dflash_config`, which wins, or beside it, as in older files."""
        keys.ignore([key])
        return inner if key in inner else keys

    count = keys.integer("num_target_layers", None)
    layers = _layers(keys, options, non_causal_sliding=False, from_anchor=False)
    ids = either("target_layer_ids").integers("target_layer_ids", None)
    if ids is None:
        ids = default_layer_ids(target.layers if count is None else count, len(layers))
    cap = either("final_logit_softcapping").number("final_logit_softcapping", None)
    _check_causal(keys, inner, options)
    for key in ("use_swa", "attention_sink_bias"):
        inner.must_be(key, False, why="is not supported")
    for key in ("swa_window_size", "projector_type"):
        inner.must_be(key, why="is not supported")
    sizes = _sizes(keys)
    keys.must_be(
        "draft_vocab_size", sizes["vocabulary_size"], why="is not vocab_size, and this layout has one head only"
    )
    config = DFlashConfig(
        layout="z-lab",
        **sizes,
        layers=layers,
        taps=_taps(ids, "outputs", target, options, directory),
        block=either("block_size").integer("block_size", 16, minimum=2),
        mask_token_id=either("mask_token_id").integer("mask_token_id", minimum=0),
        output_multiplier=either("output_multiplier").number("output_multiplier", 1.0),
        soft_cap=cap if cap is not None and cap > 0 else None,
        embedding_scale=either("input_embedding_scale").number("input_embedding_scale", 1.0),
        target_layers=count,
    )
    inner.finish()
    return config


def _speculators(keys: ConfigKeys, target: TargetSizes, options: DFlashOptions, directory: Path) -> DFlashConfig:
    keys.choice("speculators_model_type", ["dflash"])
    keys.ignore(["architectures", "speculators_version", "speculators_config", *WITHOUT_EFFECT])
    if options.sample_from_anchor:
        keys.ignore(["sample_from_anchor"])
    else:
        why = "drafts from the anchor's own row: give the option of that name"
        keys.must_be("sample_from_anchor", False, why=why)
    layer = keys.section("transformer_layer_config")
    layer.ignore(["architectures"])
    non_causal = keys.truth("sliding_window_non_causal", False)
    sizes = _sizes(layer)
    hidden = keys.integer("target_hidden_size", sizes["hidden_size"])
    if hidden != sizes["hidden_size"]:
        raise keys.refusal("target_hidden_size", f"is not the drafter's hidden_size, {sizes['hidden_size']}")
    draft_vocabulary = keys.integer("draft_vocab_size")
    config = DFlashConfig(
        layout="speculators",
        **sizes,
        layers=_layers(layer, options, non_causal_sliding=non_causal, from_anchor=True),
        taps=_taps(keys.integers("aux_hidden_state_layer_ids"), "boundaries", target, options, directory),
        block=keys.integer("block_size", 8, minimum=2),
        mask_token_id=keys.integer("mask_token_id", minimum=0),
        draft_vocabulary_size=draft_vocabulary if draft_vocabulary != sizes["vocabulary_size"] else None,
    )
    layer.finish()
    return config


def default_layer_ids(target_layers: int, draft_layers: int) -> tuple[int, ...]:
    """Return the layers whose outputs z-lab's drafters read where their config does not say."""
    if draft_layers == 1:
        return (target_layers // 2,)
    return tuple(round(1 + index * (target_layers - 4) / (draft_layers - 1)) for index in range(draft_layers))


def _taps(
    ids: tuple[int, ...],
    convention: Literal["outputs", "boundaries"],
    target: TargetSizes,
    options: DFlashOptions,
    directory: Path,
) -> tuple[TapPoint, ...]:
    """Return the taps of layer ids in a convention, unless the options name another one, or the boundaries."""
    if options.boundaries is not None:
        if len(options.boundaries) != len(ids):
            raise InputError(f"boundaries: '{directory}' reads {len(ids)} of them, not {len(options.boundaries)}")
        return taps_from(options.boundaries, target.layers, str(directory), normed=options.final_norm)
    if (options.layer_ids or convention) == "outputs":
        outputs = [number + 1 for number in ids]
        return taps_from(outputs, target.layers, str(directory), normed=options.final_norm)
    return taps_from(ids, target.layers, str(directory), last_is_final=False)


def _sizes(keys: ConfigKeys) -> dict[str, Any]:
    """Return what both layouts say of a Qwen3 layer, and refuse what would change it."""
    keys.choice("model_type", ["qwen3"])
    keys.choice("hidden_act", ["silu"], "silu")
    keys.must_be("attention_bias", False, why="adds a bias to attention, which is not supported")
    rotary = read_rotary(keys, THETA)
    keys.ignore(WITHOUT_EFFECT)
    heads, key_heads = keys.integer("num_attention_heads"), keys.integer("num_key_value_heads")
    if heads % key_heads:
        raise keys.refusal("num_key_value_heads", f"does not divide num_attention_heads, {heads}")
    size = keys.integer("head_dim")
    if size % 2:
        raise keys.refusal("head_dim", "is odd, so that it cannot be rotated in pairs")
    return {
        "hidden_size": keys.integer("hidden_size"),
        "intermediate_size": keys.integer("intermediate_size"),
        "heads": heads,
        "key_heads": key_heads,
        "head_size": size,
        "epsilon": keys.number("rms_norm_eps"),
        "rotary": rotary,
        "vocabulary_size": keys.integer("vocab_size"),
    }


def _layers(
    keys: ConfigKeys, options: DFlashOptions, *, non_causal_sliding: bool, from_anchor: bool
) -> tuple[LayerKind, ...]:
    """Return what the rows of a block see in each layer.

    from_anchor: the layout leaves open where a window is counted from, so that the options must say it.
    """
    count = keys.integer("num_hidden_layers")
    types = keys.words("layer_types", ("full_attention",) * count)
    if len(types) != count or not set(types) <= {"full_attention", "sliding_attention"}:
        raise keys.refusal("layer_types", f"must name full_attention or sliding_attention for each of {count} layers")
    causal = keys.truth("is_causal", None)
    if from_anchor and options.is_causal is None and (causal or (causal is not None and "sliding_attention" in types)):
        raise keys.refusal("is_causal", "is not read by speculators, though z-lab means it: give the option is_causal")
    causal = causal if options.is_causal is None else options.is_causal
    window = _window(keys, options, sliding="sliding_attention" in types)
    if from_anchor and window is not None and options.window_from is None:
        raise InputError(
            "window_from must be given for sliding layers in the layout of speculators: row if the drafter was"
            " converted from z-lab's layout, anchor if speculators trained it"
        )
    kinds = {
        "full_attention": LayerKind(causal=bool(causal)),
        "sliding_attention": LayerKind(
            causal=not non_causal_sliding if causal is None else causal,
            window=window,
            window_from=options.window_from or "row",
        ),
    }
    return tuple(kinds[kind] for kind in types)


def _window(keys: ConfigKeys, options: DFlashOptions, *, sliding: bool) -> int | None:
    """Return the window of sliding layers; None: they have none."""
    stated = keys.truth("use_sliding_window", None)
    window = keys.integer("sliding_window", None)
    used = stated if options.use_sliding_window is None else options.use_sliding_window
    if not sliding or (window is None and not used):
        return None
    if not used and options.use_sliding_window is None:
        raise keys.refusal(
            "use_sliding_window",
            "contradicts layer_types, and programs read that in two ways: give the option use_sliding_window",
        )
    if used and window is None:
        raise keys.refusal("sliding_window", "is needed by the sliding layers")
    return window if used else None


def _check_causal(keys: ConfigKeys, inner: ConfigKeys, options: DFlashOptions) -> None:
    """Refuse `dflash_config.causal` where nobody says what it is to mean: the reference reads `is_causal` alone."""
    if "causal" in inner and "is_causal" not in keys and options.is_causal is None:
        raise inner.refusal("causal", "is read by some programs and ignored by others: give the option is_causal")
    inner.ignore(["causal"])
