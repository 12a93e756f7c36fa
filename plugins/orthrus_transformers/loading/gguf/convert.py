"""Writes the model of a GGUF file as a directory that transformers loads: every key and tensor used, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.errors import first_of, reason
from orthrus_transformers.loading.gguf.configs import family_of, read_config
from orthrus_transformers.loading.gguf.end_tokens import end_tokens
from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.vocabulary import make_tokenizer, read_tokens
from orthrus_transformers.loading.gguf.weights import read_weights
from orthrus_transformers.loading.patterns import matches
from orthrus_transformers.loading.quiet import quiet

PENALTY = "general.sampling.penalty_repeat"  # where the converter writes that of generation_config.json
ACCOUNT = "orthrus-source.json"  # how the directory was held against the file


@dataclass(frozen=True, eq=False)
class Description:
    """All of a GGUF file but its weights: the model without them, and the tokenizer."""

    file: GgufFile
    family: str
    model: Any  # on torch's device meta
    tokenizer: Any
    ends: Sequence[int]  # tokens that end a text
    penalty: float


def write_model(path: Path, folder: Path, ignored: Sequence[str] = ()) -> None:
    """Write config, weights and tokenizer of a GGUF file into an empty folder.

    ignored: keys and tensors, with * for anything, that are left out without a word. Raises BuildError, naming keys,
    tensors and values, for a file that cannot be read whole.
    """
    description = read_description(path)
    model = description.model
    weights = _complete(read_weights(description.file, description.family, model.config), model, path)
    with torch.no_grad():
        model.load_state_dict(weights, strict=False, assign=True)
        model.tie_weights()
    save_description(description, folder, ignored)
    with quiet():
        model.save_pretrained(folder)


def read_description(path: Path) -> Description:
    """Return what a GGUF file says of its model; raise BuildError for what is missing or not understood."""
    file = GgufFile(path)
    family = family_of(file)
    settings = read_config(file, family)
    tokens = read_tokens(file)
    ends = end_tokens(file, tokens)
    model = _model_of_settings({**settings, **_token_ids(file, ends)}, path)
    tokenizer = make_tokenizer(file, tokens)
    return Description(file, family, model, tokenizer, ends, float(file.number(PENALTY, 1.0)))


def save_description(description: Description, folder: Path, ignored: Sequence[str]) -> None:
    """Write config and tokenizer into a folder; raise BuildError if keys or tensors of the file were not used."""
    file, model = description.file, description.model
    _check_all_used(file, tuple(ignored))
    model.generation_config.eos_token_id = description.ends or None
    if description.penalty != 1.0:  # said when the copy is loaded, as of any generation_config.json
        model.generation_config.repetition_penalty = description.penalty
    model.config.architectures = [type(model).__name__]
    with quiet():
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        description.tokenizer.save_pretrained(folder)
    account = {"file": file.path.name, "ignored": list(ignored), **file.account()}
    (folder / ACCOUNT).write_text(json.dumps(account, indent=1))


def _token_ids(file: GgufFile, ends: Sequence[int]) -> dict[str, Any]:
    return {
        "bos_token_id": file.take("tokenizer.ggml.bos_token_id"),
        "eos_token_id": list(ends) or None,
        "pad_token_id": None,
    }


def _model_of_settings(settings: dict[str, Any], path: Path) -> Any:
    from transformers import CONFIG_MAPPING

    kind = settings.pop("model_type")
    with _no_model(path), quiet():
        config = CONFIG_MAPPING[kind](**settings)
    return make_on_meta(config, path)


def make_on_meta(config: Any, path: Path) -> Any:
    """Return the model of a config without weights; raise BuildError for sizes that fit no model."""
    from transformers import AutoModelForCausalLM

    with _no_model(path), quiet(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=torch.float32)


@contextmanager
def _no_model(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # sizes that fit no model fail anywhere in transformers; the cause is chained
        raise BuildError(f"no model can be made from the keys of the GGUF file '{path}' ({reason(error)})") from error


def _complete(weights: dict[str, Tensor], model: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights with zeros for biases that the file lacks; raise BuildError if they are not the model's."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for name, shape in shapes.items():
        if name not in weights and name.endswith(".bias"):
            weights[name] = torch.zeros(shape)
    wrong = [f"{name} is missing" for name in shapes if name not in weights and name not in tied]
    wrong += [f"{name} has no place in it" for name in weights if name not in shapes]
    wrong += [
        f"{name} has the shape {list(values.shape)}, not {list(shapes[name])}"
        for name, values in weights.items()
        if name in shapes and values.shape != shapes[name]
    ]
    if wrong:
        raise BuildError(f"the tensors of '{path}' do not make the model that its keys describe: {first_of(wrong)}")
    return weights


def _check_all_used(file: GgufFile, ignored: tuple[str, ...]) -> None:
    keys = [file.value_text(key) for key in file.unused_keys() if not matches(key, ignored)]
    tensors = [name for name in file.unused_tensors() if not matches(name, ignored)]
    if not keys and not tensors:
        return
    said = [f"the key{'s' * (len(keys) > 1)} {', '.join(keys[:5])}{_more(keys)}"] if keys else []
    said += [f"the tensor{'s' * (len(tensors) > 1)} {', '.join(tensors[:5])}{_more(tensors)}"] if tensors else []
    names = [*file.unused_keys(), *file.unused_tensors()]
    raise BuildError(
        f"'{file.path}' holds what is not known for the architecture '{file.architecture}': {' and '.join(said)}."
        " Without it the text may be another model's; if it changes nothing, say so with"
        f" target.ignore: [{names[0]}{', ...' if len(names) > 1 else ''}]"
    )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""
