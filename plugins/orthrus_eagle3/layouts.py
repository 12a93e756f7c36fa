"""The two layouts of an EAGLE-3 checkpoint's config: SafeAILab's and that of `speculators`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orthrus import InputError, TapPoint
from orthrus.drafter_models.config_keys import WITHOUT_EFFECT, ConfigKeys, read_config_file
from orthrus.drafter_models.fit import TargetSizes, taps_from
from orthrus.drafter_models.rotary import read_rotary
from orthrus_eagle3.config import Eagle3Config, default_boundaries
from orthrus_eagle3.options import Eagle3Options

THETA = 10000.0  # of both references, where a config gives none
IDS = "eagle_aux_hidden_state_layer_ids"
NOTHING = (  # keys that change nothing of what is computed here
    *WITHOUT_EFFECT,
    "architectures",
    "bias",  # of EAGLE's first version
    "embed_requires_grad",
    "pretraining_tp",
)


def read_config(directory: Path, target: TargetSizes, options: Eagle3Options) -> Eagle3Config:
    """Return the config of a checkpoint for a target.

    Raises InputError if a key is missing, unknown or of a value that is not supported, or if the field reads it in
    several ways and the options do not say which; BuildError if the drafter was made for a target of other sizes.
    """
    values = read_config_file(directory)
    keys = ConfigKeys(values, directory / "config.json")
    read = _speculators if "speculators_model_type" in values else _safe_ai_lab
    config = read(keys, target, options, directory)
    keys.finish()
    config = _with_options(config, options)
    config.check_fits(target, str(directory))
    return config


def _with_options(config: Eagle3Config, options: Eagle3Options) -> Eagle3Config:
    """Return the config with what the options say in its place."""
    theta, before, output = options.rope_theta, options.norm_before_residual, options.norm_output
    return replace(
        config,
        rotary=config.rotary if theta is None else replace(config.rotary, theta=theta),
        norm_before_residual=config.norm_before_residual if before is None else before,
        norm_output=config.norm_output if output is None else output,
        position_offset=options.position_offset,
    )


def _safe_ai_lab(keys: ConfigKeys, target: TargetSizes, options: Eagle3Options, directory: Path) -> Eagle3Config:
    keys.choice("model_type", ["llama"], "llama")
    keys.ignore(["num_hidden_layers"])  # there is one layer, whatever it says
    sizes = _sizes(keys)
    return Eagle3Config(
        layout="SafeAILab",
        **sizes,
        target_hidden_size=keys.integer("target_hidden_size", sizes["hidden_size"]),
        draft_vocabulary_size=keys.integer("draft_vocab_size"),
        taps=_safe_ai_lab_taps(keys, target, options, directory),
    )


def _safe_ai_lab_taps(
    keys: ConfigKeys, target: TargetSizes, options: Eagle3Options, directory: Path
) -> tuple[TapPoint, ...]:
    """Return the taps; ids in this layout are not the reference's own, and programs read them in two ways."""
    inner = keys.section("eagle_config")
    own, nested = keys.integers(IDS, None), inner.integers(IDS, None)
    inner.must_be("use_aux_hidden_state", True, why="leaves the taps out, which is not supported")
    inner.finish()
    ids = own if own is not None else nested
    if options.boundaries is not None:
        return _given(options, len(ids) if ids is not None else 3, target, directory)
    if ids is None:
        return taps_from(default_boundaries(target.layers, str(directory)), target.layers, str(directory))
    if options.layer_ids is None:
        raise (keys if own is not None else inner).refusal(
            IDS, "is read as outputs of layers by some programs and as boundaries by others: give the option layer_ids"
        )
    return _converted(ids, options, target, directory)


def _speculators(keys: ConfigKeys, target: TargetSizes, options: Eagle3Options, directory: Path) -> Eagle3Config:
    keys.choice("speculators_model_type", ["eagle3"])
    keys.ignore(["speculators_version", "speculators_config", *NOTHING])
    layer = keys.section("transformer_layer_config")
    kind = layer.choice("model_type", ["llama", "qwen3"])
    if layer.integer("num_hidden_layers") != 1:
        raise layer.refusal("num_hidden_layers", "is not 1, and drafters of several layers are not supported")
    sizes = _sizes(layer)
    layer.finish()
    stated = keys.truth("norm_before_residual", options.norm_before_residual)
    if stated is None:
        raise keys.refusal(
            "norm_before_residual",
            "is read as true by some programs and as false by others: give the option of that name",
        )
    norm_before_fc, norm_taps = keys.truth("norm_before_fc", False), keys.truth("fc_norm", False)
    if norm_before_fc and norm_taps:
        raise keys.refusal("fc_norm", "excludes norm_before_fc, which is true, too")
    hidden = keys.integer("target_hidden_size", sizes["hidden_size"])
    if hidden != sizes["hidden_size"]:
        raise keys.refusal("target_hidden_size", f"is not the drafter's hidden_size, {sizes['hidden_size']}")
    return Eagle3Config(
        layout="speculators",
        **sizes,
        target_hidden_size=hidden,
        draft_vocabulary_size=keys.integer("draft_vocab_size"),
        taps=_speculators_taps(keys.integers(IDS, None), target, options, directory),
        head_norms=kind == "qwen3",
        norm_before_residual=stated,
        norm_before_fc=norm_before_fc,
        norm_taps=norm_taps,
        norm_output=keys.truth("norm_output", False),
    )


def _speculators_taps(
    ids: tuple[int, ...] | None, target: TargetSizes, options: Eagle3Options, directory: Path
) -> tuple[TapPoint, ...]:
    if options.boundaries is not None:
        return _given(options, 3 if ids is None else len(ids), target, directory)
    if ids is None:
        return taps_from(default_boundaries(target.layers, str(directory)), target.layers, str(directory))
    return _converted(ids, options, target, directory)


def _given(options: Eagle3Options, count: int, target: TargetSizes, directory: Path) -> tuple[TapPoint, ...]:
    """Return the taps that the options name, which must be as many as the drafter reads."""
    boundaries = options.boundaries or ()
    if len(boundaries) != count:
        raise InputError(f"boundaries: '{directory}' reads {count} of them, not {len(boundaries)}")
    return taps_from(boundaries, target.layers, str(directory), normed=options.final_norm)


def _converted(
    ids: tuple[int, ...], options: Eagle3Options, target: TargetSizes, directory: Path
) -> tuple[TapPoint, ...]:
    if options.layer_ids == "outputs":
        outputs = [number + 1 for number in ids]
        return taps_from(outputs, target.layers, str(directory), normed=options.final_norm)
    return taps_from(ids, target.layers, str(directory), last_is_final=False)


def _sizes(keys: ConfigKeys) -> dict[str, Any]:
    """Return what both layouts say of a layer, and refuse what would change it."""
    keys.choice("hidden_act", ["silu"], "silu")
    keys.must_be("attention_bias", False, why="adds a bias to attention, which is not supported")
    keys.must_be("mlp_bias", False, why="adds a bias to the MLP, which is not supported")
    keys.must_be("layer_types", ["full_attention"], why="is not full attention, which alone is supported")
    keys.must_be("use_sliding_window", False, why="limits attention to a window, which is not supported")
    keys.ignore(["sliding_window"])  # without the two keys above it is not used
    rotary = read_rotary(keys, THETA)
    keys.ignore(NOTHING)
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    key_heads = keys.integer("num_key_value_heads", heads)
    if heads % key_heads:
        raise keys.refusal("num_key_value_heads", f"does not divide num_attention_heads, {heads}")
    size = keys.integer("head_dim", hidden // heads)
    if size % 2:
        raise keys.refusal("head_dim", f"is odd, or {hidden}/{heads} is, so that it cannot be rotated in pairs")
    return {
        "hidden_size": hidden,
        "intermediate_size": keys.integer("intermediate_size"),
        "heads": heads,
        "key_heads": key_heads,
        "head_size": size,
        "epsilon": keys.number("rms_norm_eps"),
        "rotary": rotary,
        "vocabulary_size": keys.integer("vocab_size"),
    }
