"""Tensors of a checkpoint: safetensors only, each one named in errors if it is missing, extra or of another shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from orthrus.errors import InputError, first_of, reason
from orthrus.files import weight_files

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CONVERSION = (
    "import torch; from safetensors.torch import save_file; save_file({name: tensor.clone() for name, tensor in"
    " torch.load('pytorch_model.bin', map_location='cpu', weights_only=True).items()}, 'model.safetensors')"
)


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every stored tensor by name; raise InputError if there are none or a file is damaged."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(directory):
        with _opened(file) as stored:
            shapes |= {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    return shapes


def check_shapes(
    stored: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    directory: Path,
    ignored: Collection[str] = (),
) -> None:
    """Raise InputError with what is missing, what is extra, and what has another shape.

    ignored: tensors that may be there and are not read.
    """
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - stored.keys())]
    wrong += [f"{name} is not known" for name in sorted(stored.keys() - expected.keys() - set(ignored))]
    wrong += [
        f"{name} has the shape {list(stored[name])}, not {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in stored and stored[name] != shape
    ]
    if wrong:
        raise InputError(f"the tensors in '{directory}' do not fit its config.json: {first_of(wrong)}")


def read_tensors(directory: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of these names as they are stored, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for file in _files(directory):
        with _opened(file) as stored:
            tensors |= {name: stored.get_tensor(name) for name in stored.keys() if name in names}  # noqa: SIM118
    return tensors


def _files(directory: Path) -> list[Path]:
    files = weight_files(directory)
    if files:
        return files
    pickles = sorted(file.name for pattern in PICKLES for file in directory.glob(pattern))
    if pickles:
        raise InputError(
            f"'{directory}' holds its weights as a pickle, '{pickles[0]}', which can run code when it is loaded and is"
            f" never read; convert it in that folder, where torch reads tensors only: python -c"
            f' "{CONVERSION.replace("pytorch_model.bin", pickles[0])}"'
        )
    raise InputError(f"'{directory}' holds no weights: there is no .safetensors file")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            yield stored
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of a dtype that torch cannot read
        raise InputError(f"'{file}' is damaged or cannot be read ({reason(error, 120)})") from error
