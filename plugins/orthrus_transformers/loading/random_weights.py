"""Random weights in the shape of a config, whose text no rounding changes: for measuring without a model's files.

A directory asks for them by `random_weights_seed` in its config.json. In a model of random weights next tokens are
nearly tied, and a pass over 32 tokens, which rounds otherwise than a pass over one, would give another text. So here
the layers add little to the residual stream, and the head finds the current token in it: the text repeats its token
where the head is tied to the embeddings, and counts where it is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.errors import reason
from orthrus.ranks.group import RankGroup
from orthrus_transformers.loading.sharded_weights import empty_shards, fill
from orthrus_transformers.model.shards import Part, shards_of

SEED = "random_weights_seed"
LAST_PROJECTIONS = ("o_proj.weight", "down_proj.weight")
SMALL = 0.02  # of what a layer would add: after 40 layers a tenth of the embedding
MARGIN = 20.0  # the next token's logit, in standard deviations of the others


def wants_random_weights(directory: Path) -> bool:
    """Tell whether a directory's config.json asks for random weights, and it holds no others."""
    if any(directory.glob("*.safetensors")):
        return False
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False  # what is wrong with it is said where it is loaded
    return isinstance(config, dict) and isinstance(config.get(SEED), int)


def make_random_model(
    directory: Path, dtype: torch.dtype | None, device: torch.device, *, trust_remote_code: bool = False
) -> Any:
    """Return the model that a config describes, made on the device; dtype None: the config's.
    trust_remote_code: run Python code of the directory.

    Raises BuildError if transformers cannot make it or the device has no room for it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=trust_remote_code, dtype=dtype or config.dtype or torch.float32
            )
        _fill(model, torch.Generator(device).manual_seed(getattr(config, SEED)))
    except Exception as error:  # unknown models and full devices fail in many ways; the cause is chained
        raise BuildError(f"no model can be made from '{directory}/config.json' ({reason(error)})") from error
    return model


@torch.no_grad()
def make_random_shards(
    directory: Path,
    dtype: torch.dtype | None,
    device: torch.device,
    group: RankGroup,
    *,
    trust_remote_code: bool = False,
) -> Any:
    """Return the model that a config describes, of which each rank holds a part: the very weights that one would hold.

    Every weight is drawn whole, one after the other, and cut. Raises BuildError as `make_random_model` does, and if so
    many ranks cannot share the model.
    """
    try:
        model = empty_shards(directory, dtype, device, group, trust_remote_code=trust_remote_code)
        generator = torch.Generator(device).manual_seed(getattr(model.config, SEED))

        def drawn(name: str, part: Part) -> Tensor:
            weight = torch.empty(part.shape, dtype=model.dtype, device=device)
            _draw(name, weight, generator)
            return part.of(weight)

        fill(model, device, drawn)
        _point_shards_to_the_next_token(model, generator)
    except BuildError:
        raise
    except Exception as error:  # as above
        raise BuildError(f"no model can be made from '{directory}/config.json' ({reason(error)})") from error
    return model


def _draw(name: str, weight: Tensor, generator: torch.Generator) -> None:
    """Fill a matrix [out, in], or a vector of a norm or of biases."""
    if weight.dim() == 1:
        weight.fill_(0.0 if name.endswith("bias") else 1.0)
    else:
        small = SMALL if name.endswith(LAST_PROJECTIONS) else 1.0
        weight.normal_(0.0, small * weight.shape[1] ** -0.5, generator=generator)


@torch.no_grad()
def _fill(model: Any, generator: torch.Generator) -> None:
    for name, weight in model.named_parameters():
        _draw(name, weight, generator)
    _point_to_the_next_token(model, generator)


def _point_to_the_next_token(model: Any, generator: torch.Generator) -> None:
    """Make the logit of one token, decided by the current one alone, stand MARGIN deviations above the others.

    Embeddings are signs, so all have the same length. With final norm g and embedding e the token's logit is the sum
    of g, the others' are sums of g with random signs: of deviation sqrt(E), for a g of deviation 1 and small mean.
    """
    embedding: Tensor = model.get_input_embeddings().weight  # [V, E]
    head: Tensor = model.get_output_embeddings().weight  # [V, E]
    embedding.normal_(generator=generator).sign_()
    if head.data_ptr() != embedding.data_ptr():
        head.copy_(embedding.roll(1, 0))  # row t + 1 is embedding t
    _draw_final_norm(model, generator)


def _point_shards_to_the_next_token(model: Any, generator: torch.Generator) -> None:
    shards = shards_of(model)
    assert shards is not None, "the model is sharded"
    names = {module: path for path, module in model.named_modules()}
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    part = shards.parts[f"{names[table]}.weight"]
    embedding = torch.empty(part.shape, dtype=table.weight.dtype, device=table.weight.device)
    embedding.normal_(generator=generator).sign_()
    count = part.stop - part.start
    table.weight[:count] = part.of(embedding)
    if head.weight.data_ptr() != table.weight.data_ptr():
        head.weight[:count] = part.of(embedding.roll(1, 0))
    _draw_final_norm(model, generator)


def _draw_final_norm(model: Any, generator: torch.Generator) -> None:
    norm: Tensor = model.base_model.norm.weight  # [E]
    norm.normal_(generator=generator)
    norm.add_(MARGIN * len(norm) ** -0.5 - norm.mean())
