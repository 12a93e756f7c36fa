"""GGUF files: converted once to safetensors in the user's cache directory, keyed by what the file contains."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from orthrus import BuildError, cache_directory
from orthrus_transformers.loading.quiet import quiet
from orthrus_transformers.loading.weights import load_weights, short

FORMAT = 1  # raise it when the conversion changes; older copies are then made anew
MANIFEST = "orthrus.json"
MODELS = "models"  # the folder of the user's cache
MAGIC = b"GGUF"


def converted(file: Path, notify: Callable[[str], None]) -> Path:
    """Return a directory with the file's model as safetensors, converting it if there is no whole copy yet.

    A copy is written beside its final place and renamed, so that there is never half of one; its files' hashes are
    checked before use, and a damaged copy is made anew. Raises BuildError if the file is damaged or a package missing.
    """
    place = cache_directory(MODELS) / f"{_digest(file)[:32]}-{FORMAT}"
    if not is_whole(place):
        _check_magic(file)
        notify(f"converting {file.name} to safetensors (once; about half a minute for 100 MB)")
        _convert(file, place)
    return place


def is_whole(place: Path) -> bool:
    """Tell whether a converted copy is there and every file is as it was written."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        whole = isinstance(manifest, dict) and bool(manifest)
        return whole and all(_digest(place / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError):
        return False


def _check_magic(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise BuildError(f"target.source: '{file}' is no GGUF file: it does not start with {MAGIC.decode()}")


def _convert(file: Path, place: Path) -> None:
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise BuildError(
            f"reading '{file.name}' needs the package {' and '.join(missing)}: pip install 'orthrus-decoding[gguf]'"
        )
    made_folders = [folder for folder in (place.parent, place.parent.parent) if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        _convert_beside(file, place)
    except BaseException:
        for folder in made_folders:  # a conversion that failed leaves nothing, not even an empty folder
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _convert_beside(file: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".converting-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        _write_safetensors(file, made)
        manifest = {path.name: _digest(path) for path in sorted(made.iterdir())}
        (made / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _move(made, place)


def _write_safetensors(file: Path, made: Path) -> None:
    from safetensors.torch import save_model
    from transformers import AutoTokenizer

    model = load_weights(file.parent, f"the GGUF file '{file}'", gguf_file=file.name)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # a damaged file fails anywhere in the reader; the cause is chained
        raise BuildError(f"no tokenizer can be loaded from the GGUF file '{file}' ({short(error)})") from error
    # The weights are ordinary floats now; a config that still calls them quantized could not be loaded.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(made)
    model.generation_config.save_pretrained(made)
    tokenizer.save_pretrained(made)
    save_model(model, str(made / "model.safetensors"), metadata={"format": "pt"})


def _move(made: Path, place: Path) -> None:
    if place.exists() and not is_whole(place):
        shutil.rmtree(place)
    try:
        made.rename(place)
    except OSError:
        if not is_whole(place):  # unless another process was quicker
            raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
