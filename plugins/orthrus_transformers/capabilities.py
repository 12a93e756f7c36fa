"""Which models and attention backends go together; said before anything runs."""

from __future__ import annotations

from typing import Any

from orthrus import AttentionBackend, BuildError

KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def check_layers(model: Any) -> None:
    """Raise BuildError for a model whose layers keep a state that cannot be rolled back, or an unknown mask."""
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    foreign = sorted(layers - KNOWN_LAYERS)
    if foreign:
        raise BuildError(
            f"model type '{model.config.model_type}' has layers of type {', '.join(foreign)}, which a rejected draft"
            f" cannot be taken back from; supported: {', '.join(sorted(KNOWN_LAYERS))}"
        )


def check_attention(model: Any, attention: AttentionBackend) -> None:
    """Raise BuildError if the backend does not work on the model's device, dtype, or scores."""
    can, name = attention.capabilities, type(attention).__name__
    if can.devices and model.device.type not in can.devices:
        raise BuildError(f"attention {name} runs on {', '.join(sorted(can.devices))}, not on {model.device.type}")
    dtype = str(model.dtype).removeprefix("torch.")
    if can.dtypes and dtype not in can.dtypes:
        raise BuildError(f"attention {name} computes in {', '.join(sorted(can.dtypes))}, not in {dtype}")
    if not can.softcap and getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        raise BuildError(
            f"model type '{model.config.model_type}' soft-caps its attention scores, which attention {name} cannot;"
            " set attention.name=eager"
        )
