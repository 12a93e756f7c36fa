"""The parts of transformers that this plugin relies on, each with a check that they look as they must.

`broken_reliances` walks them; a test of every supported release does, and a target that cannot be made is told of them.
The tried releases are 5.17 to 5.24: from 5.24 on models, layers and masks call the cache `cache`, which was
`past_key_values` before.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from orthrus import BuildError

TRIED = ("5.17", "5.24")
CACHE_ARGUMENTS = ("cache", "past_key_values", "cache_params")  # the newest name first; the last of recurrent models
# Modules and the names that are imported from them, in this plugin and its tests of models.
NAMES = {
    "transformers": (
        "AttentionInterface",
        "AttentionMaskInterface",
        "AutoConfig",
        "AutoModelForCausalLM",
        "AutoTokenizer",
        "CONFIG_MAPPING",
        "EosTokenCriteria",
        "GenerationConfig",
        "MaxLengthCriteria",
        "MaxTimeCriteria",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "MinPLogitsWarper",
        "NoBadWordsLogitsProcessor",
        "PreTrainedTokenizerFast",
        "RepetitionPenaltyLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
    ),
    "transformers.conversion_mapping": ("get_model_conversion_mapping",),
    "transformers.core_model_loading": ("WeightRenaming",),
    "transformers.generation": ("GenerateDecoderOnlyOutput",),
    "transformers.masking_utils": ("sdpa_mask",),
    "transformers.utils": ("logging",),
}
FUSED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
MODEL_ARGUMENTS = ("input_ids", "position_ids", "attention_mask", "use_cache", "logits_to_keep")
MODEL_MEMBERS = (
    "base_model",
    "device",
    "dtype",
    "generation_config",
    "get_decoder",
    "get_input_embeddings",
    "get_output_embeddings",
    "set_attn_implementation",
)
ATTENTION_MEMBERS = ("config", "head_dim", "layer_idx", "scaling", "q_proj", "k_proj", "v_proj", "o_proj")
TOKENIZER_ARGUMENTS = {
    "encode": ("text", "add_special_tokens"),
    "decode": ("token_ids", "skip_special_tokens"),
    "apply_chat_template": ("conversation", "tokenize", "add_generation_prompt"),
}


def cache_argument(module: Any) -> str:
    """Return the name under which the forward of a model or a layer takes the cache; the newer one if it is unknown."""
    parameters = inspect.signature(type(module).forward).parameters
    return next((name for name in CACHE_ARGUMENTS if name in parameters), CACHE_ARGUMENTS[0])


@dataclass(frozen=True)
class Reliance:
    """One thing that must be so in transformers; check returns what it looks like instead, or None."""

    name: str
    check: Callable[[], str | None]


def broken_reliances() -> list[str]:
    """Return a sentence for each thing that is not as this plugin needs it, in the installed transformers."""
    return [f"{reliance.name}: {wrong}" for reliance in reliances() if (wrong := _outcome(reliance)) is not None]


def raise_if_transformers_changed(error: Exception) -> None:
    """Raise BuildError if the installed transformers is not as this plugin needs it; error: what that led to."""
    broken = broken_reliances()
    if broken:
        raise BuildError(
            f"transformers {version('transformers')} is not as Orthrus needs it (tried: {TRIED[0]} to {TRIED[1]}):"
            f" {broken[0]}"
        ) from error


def reliances() -> Iterator[Reliance]:
    """Yield all that is relied on."""
    for module, names in NAMES.items():
        for name in names:
            yield Reliance(f"{module}.{name}", lambda module=module, name=name: _lacks(import_module(module), (name,)))  # type: ignore[misc]  # bound now
    for family in FUSED_FAMILIES:
        yield Reliance(f"the layers of {family}", lambda family=family: _layers(family))  # type: ignore[misc]  # as above
    yield Reliance("AttentionInterface.register(name, function)", _registers)
    yield Reliance("the forward of a model", lambda: _lacks_arguments(_tiny("llama").forward, MODEL_ARGUMENTS))
    yield Reliance("the members of a model", lambda: _lacks(_tiny("llama"), MODEL_MEMBERS))
    yield Reliance("a config", _config)
    yield Reliance("what layers hand to the attention and to the cache", _handed)
    yield Reliance("the rotary embedding", lambda: _lacks(_tiny("llama").model.rotary_emb, ("rope_type", "inv_freq")))
    yield Reliance("the short convolutions of lfm2", _convolutions)
    yield Reliance("a tokenizer", _tokenizer)
    yield Reliance("what generate hands to a callable", _generate)


def _outcome(reliance: Reliance) -> str | None:
    try:
        return reliance.check()
    except Exception as error:  # whatever a changed library raises is what is to be told
        return f"{type(error).__name__}: {error}"


def _lacks(value: Any, names: tuple[str, ...]) -> str | None:
    lacking = [name for name in names if not hasattr(value, name)]
    return f"it lacks {', '.join(lacking)}" if lacking else None


def _lacks_arguments(function: Any, names: tuple[str, ...]) -> str | None:
    lacking = [name for name in names if name not in inspect.signature(function).parameters]
    return f"it takes no argument {', '.join(lacking)}" if lacking else None


def _tiny(family: str, **settings: Any) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 16}
    tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    config = CONFIG_MAPPING[family](**sizes, **heads, **tokens, **settings)
    return AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()


def _layers(family: str) -> str | None:
    layer = _tiny(family).model.layers[0]
    if not any(name in inspect.signature(layer.forward).parameters for name in CACHE_ARGUMENTS):
        return f"it takes no argument {' or '.join(CACHE_ARGUMENTS)}"
    members = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
    return (
        _lacks(layer, members)
        or _lacks(layer.self_attn, ATTENTION_MEMBERS)
        or _lacks(layer.mlp, ("gate_proj", "up_proj", "down_proj", "act_fn"))
        or _lacks(layer.input_layernorm, ("weight", "variance_epsilon"))
        or _lacks_arguments(layer.forward, ("hidden_states", "position_embeddings"))
    )


def _registers() -> str | None:
    from transformers import AttentionInterface, AttentionMaskInterface

    for interface in (AttentionInterface, AttentionMaskInterface):
        wrong = _lacks_arguments(interface.register, ("key", "value"))
        if wrong:
            return wrong
    return None


def _config() -> str | None:
    config = _tiny("llama").config
    if not dataclasses.is_dataclass(config):
        return "it is no dataclass, so its known keys cannot be told"
    return _lacks(config, ("get_text_config", "_attn_implementation", "rope_parameters", "attribute_map"))


class _Recorder:
    """A cache and an attention that note what they are handed."""

    def __init__(self) -> None:
        self.updates: list[tuple[Any, ...]] = []
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def update(self, keys: Any, values: Any, layer: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.updates.append((keys, values, layer))
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        return 0

    def attend(self, *args: Any, **kwargs: Any) -> tuple[Any, None]:
        self.calls.append((args, kwargs))
        return args[1].transpose(1, 2), None


def _handed() -> str | None:
    import torch
    from transformers import AttentionInterface

    recorder, model = _Recorder(), _tiny("llama")
    AttentionInterface.register("orthrus_reliance", recorder.attend)
    model.set_attn_implementation("orthrus_reliance")
    ids = torch.zeros(1, 3, dtype=torch.int64)
    mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    positions = torch.arange(3)[None]
    with torch.no_grad():
        model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=1,
            **{cache_argument(model): recorder},
        )
    if [layer for _, _, layer in recorder.updates] != [0, 1]:
        return f"cache.update is called for layers {[layer for _, _, layer in recorder.updates]}, not for 0 and 1"
    (module, query, key, _value, seen), options = recorder.calls[0]
    if not hasattr(module, "layer_idx") or query.shape != (1, 2, 3, 4) or key.shape != (1, 1, 3, 4):
        return "attention is not called with (module, query [B, H, n, D], key [B, H_kv, n, D], value, mask)"
    if seen is not mask or "scaling" not in options:
        return "attention is not handed the mask as it was given, and `scaling` by name"
    return None


def _convolutions() -> str | None:
    model = _tiny("lfm2", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
    members = ("in_proj", "out_proj", "conv", "conv_kernel_size", "layer_idx")
    return _lacks(model.model.layers[0].conv, members)


def _generate() -> str | None:
    import torch

    called: dict[str, Any] = {}

    def decode(model: Any, input_ids: Any, **arguments: Any) -> Any:
        frame = inspect.currentframe()
        assert frame is not None and frame.f_back is not None, "Python has frames, and somebody calls"
        called.update(arguments, caller=frame.f_back.f_code.co_name, locals=set(frame.f_back.f_locals))
        return input_ids

    _tiny("llama").generate(torch.tensor([[1, 2]]), max_new_tokens=1, custom_generate=decode)
    handed = ("logits_processor", "stopping_criteria", "generation_config", "attention_mask")
    lacking = [name for name in handed if name not in called]
    if lacking:
        return f"it does not hand over {', '.join(lacking)}"
    hidden = {"custom_generate", "streamer", "assistant_model", "synced_gpus", "kwargs"} - called["locals"]
    if called["caller"] != "generate" or hidden:
        return f"it is called by {called['caller']}, which has no {', '.join(sorted(hidden))}"
    return None


def _tokenizer() -> str | None:
    from transformers import PreTrainedTokenizerFast

    wrong = (_lacks_arguments(getattr(PreTrainedTokenizerFast, of), names) for of, names in TOKENIZER_ARGUMENTS.items())
    return next(filter(None, wrong), _lacks(PreTrainedTokenizerFast, ("backend_tokenizer", "added_tokens_decoder")))
