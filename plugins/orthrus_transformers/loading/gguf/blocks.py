"""Models of GGUF files whose weights stay in the file's blocks: a description that is written once, and the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.errors import first_of
from orthrus_transformers.loading.gguf.convert import Description, make_on_meta, read_description, save_description
from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.names import transformers_name
from orthrus_transformers.loading.gguf.weights import PERMUTED, unpermuted
from orthrus_transformers.loading.quiet import quiet
from orthrus_transformers.model.block_decoder import BlockConfig, BlockDecoder, BlockDescription
from orthrus_transformers.model.block_weights import BlockEmbedding, BlockLinear, BlockModule, BlockWeight
from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.llama_like import layer_window

TABLE = "orthrus-blocks.json"  # where each weight is in the file, and what the model is made of
FAMILIES = ("llama", "qwen2", "qwen3")  # whose weights are in the file as the model multiplies by them
KINDS = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 30: "BF16"}


@dataclass(frozen=True)
class StoredWeight:
    """A tensor of the file: its name there, GGUF's number of its type, its shape, and where its bytes are."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int
    size: int


def write_description(path: Path, folder: Path, ignored: Sequence[str] = ()) -> None:
    """Write config, tokenizer and a table of the weights of a GGUF file into an empty folder: no weights.

    Raises BuildError, as `write_model` does, and for a type of blocks that is not read.
    """
    description = read_description(path)
    if description.family not in FAMILIES:
        raise BuildError(
            f"'{path}' is of the architecture '{description.file.architecture}', and target.dtype=gguf computes with"
            f" the blocks of {', '.join(FAMILIES)}; set target.dtype=float32"
        )
    table = dict(_stored_weights(description.file, description.family))
    _check_shapes({name: stored.shape for name, stored in table.items()}, description)
    save_description(description, folder, ignored)
    _write_table(folder, table, description.model)


def load_block_model(path: Path, directory: Path) -> Any:
    """Return transformers' model of a GGUF file over its blocks; directory: where its description is."""
    from transformers import AutoConfig, GenerationConfig

    with quiet():
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        model = make_on_meta(config, path)
        model.generation_config = GenerationConfig.from_dict(
            json.loads((directory / "generation_config.json").read_text())
        )
    _put_in(model, _block_weights(path, _read_table(directory), config))
    rotary = model.base_model.rotary_emb
    model.base_model.rotary_emb = type(rotary)(config=config)  # its buffers are in no file
    return model


def load_block_decoder(path: Path, directory: Path, whole: Callable[[], Any]) -> BlockDecoder:
    """Return the same model as the engine native reads it, without transformers; whole: returns that one."""
    table = _read_table(directory)
    description = BlockDescription(
        table["config"],
        _block_weights(path, table, BlockConfig(table["config"])),
        frozenset(table["biases"]),
        table["windows"],
        table["frequencies"],
        table["scaling"],
    )
    return BlockDecoder(description, whole).eval()


def _write_table(folder: Path, weights: Mapping[str, StoredWeight], model: Any) -> None:
    """Write where the weights are, and what a decoder without transformers takes over from transformers' model."""
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    rotary = type(model.base_model.rotary_emb)(config=config)
    table = {
        "weights": {name: asdict(stored) for name, stored in weights.items()},
        "config": config.to_dict(),
        "biases": [name.removesuffix(".bias") for name in model.state_dict() if name.endswith(".bias")],
        "windows": [layer_window(layer) for layer in find_layers(model)],
        "frequencies": rotary.inv_freq.tolist(),
        "scaling": float(rotary.attention_scaling),
    }
    (folder / TABLE).write_text(json.dumps(table))


def _read_table(directory: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((directory / TABLE).read_text())
    return table


def _block_weights(path: Path, table: Mapping[str, Any], config: Any) -> dict[str, BlockWeight]:
    stored = {name: StoredWeight(**{**kept, "shape": tuple(kept["shape"])}) for name, kept in table["weights"].items()}
    return {name: _block_weight(path, name, weight, config) for name, weight in stored.items()}


def _stored_weights(file: GgufFile, family: str) -> Iterator[tuple[str, StoredWeight]]:
    for name in file.tensor_names:
        new = transformers_name(family, name)
        if new is None:
            continue
        kind, type_name, offset, size = file.stored(name)
        if kind not in KINDS:
            raise BuildError(
                f"the tensor '{name}' of '{file.path}' is of type {type_name}, which target.dtype=gguf does not read;"
                f" it reads {', '.join(KINDS.values())}: set target.dtype=float32"
            )
        yield new, StoredWeight(name, kind, file.shape(name), offset, size)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], description: Description) -> None:
    """Raise BuildError unless the file has each weight of the model, in its shape, and no other."""
    expected = {name: tuple(weight.shape) for name, weight in description.model.state_dict().items()}
    tied = set(getattr(description.model, "all_tied_weights_keys", None) or ())
    wrong = [
        f"{name} is missing" for name in expected if name not in shapes and name not in tied and ".bias" not in name
    ]
    wrong += [f"{name} has no place in it" for name in shapes if name not in expected]
    wrong += [
        f"{name} has the shape {list(shape)}, not {list(expected[name])}"
        for name, shape in shapes.items()
        if name in expected and shape != expected[name]
    ]
    if wrong:
        path = description.file.path
        raise BuildError(f"the tensors of '{path}' do not make the model that its keys describe: {first_of(wrong)}")


def _block_weight(path: Path, name: str, stored: StoredWeight, config: Any) -> BlockWeight:
    rows, columns = stored.shape if len(stored.shape) == 2 else (1, stored.shape[0])
    order = None
    if config.model_type in ("llama", "mistral") and "llama" in PERMUTED:
        order = _order(name, rows if len(stored.shape) == 2 else columns, config)
    return BlockWeight(path, stored.name, stored.kind, (rows, columns), stored.offset, stored.size, order)


def _order(name: str, rows: int, config: Any) -> Tensor | None:
    """Return which of the file's rows each row of q and k is, as transformers pairs them; None: they are in order."""
    heads = {".q_proj.": config.num_attention_heads, ".k_proj.": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            return unpermuted(torch.arange(rows), count)
    return None


def _put_in(model: Any, weights: Mapping[str, BlockWeight]) -> None:
    """Give a model without weights those of the file: linear layers and tables in blocks, all else in float32."""
    state = list(model.state_dict())
    for name in state:
        path, _, kind = name.rpartition(".")
        module = model.get_submodule(path)
        weight = weights.get(name)
        if kind == "weight" and isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            _replace(model, path, _in_blocks(module, weight or _of_table(weights), weights.get(f"{path}.bias")))
        elif not isinstance(module, BlockModule):
            values = torch.zeros(module.get_parameter(kind).shape) if weight is None else weight.vector()
            module.register_parameter(kind, torch.nn.Parameter(values, requires_grad=False))


def _in_blocks(module: Any, weight: BlockWeight, bias: BlockWeight | None) -> torch.nn.Module:
    if isinstance(module, torch.nn.Embedding):
        return BlockEmbedding(weight)
    if module.bias is None:
        return BlockLinear(weight)
    return BlockLinear(weight, torch.zeros(module.out_features) if bias is None else bias.vector())


def _of_table(weights: Mapping[str, BlockWeight]) -> BlockWeight:
    """Return the weight of a head that is tied to the embedding table."""
    return weights["model.embed_tokens.weight"]


def _replace(model: Any, path: str, module: torch.nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
