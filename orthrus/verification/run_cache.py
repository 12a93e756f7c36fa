"""A cache of decoded runs in a folder: a verification that was cut off goes on, and several share the work.

A run is found again only if everything is the same that decides it: config, prompts as tokens, batch, weights (of the
target, and of a drafter that tells of its own), device, versions, and the code of Orthrus and of every part.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from orthrus.config.schema import Config, PartConfig
from orthrus.decoder import Decoder
from orthrus.files import WriteError, write_whole
from orthrus.machine import versions
from orthrus.metrics import Measures
from orthrus.optional import HasFingerprint
from orthrus.values import Prompt, Result
from orthrus.verification.recording_verifier import TokenRecord

FORMAT = "orthrus-decoded 1"
NOT_MEASURED = Measures(0, 0, 0, (), 0.0, None)  # of an answer that was not decoded now
Answers = tuple[Sequence[Result], Sequence[dict[int, TokenRecord]]]


@dataclass(frozen=True)
class KeptRuns:
    """Keep runs in a folder, each a file named for what decided it."""

    folder: Path
    notify: Callable[[str], None]

    def read(self, identity: Mapping[str, Any], label: str) -> Answers | None:
        """Return the answers of a run and what was seen of each; None if it must be decoded. The user is told."""
        file = self._file(identity)
        try:
            answers = _parse(json.loads(file.read_text(encoding="utf-8")), identity)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            self.notify(f"the run kept in '{file}' is damaged; it is decoded again")
            return None
        self.notify(f"{label}: kept in '{file}', not decoded again")
        return answers

    def write(self, identity: Mapping[str, Any], answers: Answers, label: str) -> None:
        """Keep a run, whole or not at all; where nothing can be written the user is told."""
        file = self._file(identity)
        entry = {
            "format": FORMAT,
            "identity": identity,
            "answers": [_plain(*answer) for answer in zip(*answers, strict=True)],
        }
        try:
            write_whole(file, json.dumps(entry))
        except WriteError as error:
            self.notify(f"{label}: cannot be kept in '{self.folder}' ({error.why}); the next time it is decoded again")
            return
        self.notify(f"{label}: decoded, kept in '{file}'")

    def _file(self, identity: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"


def identity_of(
    config: Config, batch: int, prompts: Sequence[tuple[str, Prompt]], chat: bool | None, decoder: Decoder
) -> dict[str, Any]:
    """Return what decides a run, as JSON has it."""
    parts = {field.name: getattr(config, field.name) for field in fields(config)}
    chosen = {name: part for name, part in parts.items() if isinstance(part, PartConfig)}
    texts = [[id, decoder.encode(prompt, id, chat)] for id, prompt in prompts]
    identity = {
        "parts": {name: [part.entry.name, part.entry.origin, options_of(part)] for name, part in chosen.items()},
        "sampling": asdict(config.sampling),
        "stop": asdict(config.stop),
        "seed": config.seed,
        "batch": batch,
        "prompts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "weights": [
            part.fingerprint() for part in (decoder.target, decoder.drafter) if isinstance(part, HasFingerprint)
        ],
        "environment": versions(decoder.target.device),
        "code": code_digest(part.entry.load_factory().__module__ for part in chosen.values()),
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return plain


def options_of(part: PartConfig) -> Any:
    """Return the options of a part by name; None if it has none."""
    return asdict(part.options) if is_dataclass(part.options) and not isinstance(part.options, type) else part.options


def code_digest(modules: Iterable[str]) -> str:
    """Return a digest of every Python file of Orthrus and of the packages that these modules are in."""
    digest = hashlib.sha256()
    for package in sorted({"orthrus", *(module.partition(".")[0] for module in modules)}):
        for file in _files(package):
            digest.update(f"{package} {file.name}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(folder).rglob("*.py"))
    if spec and spec.origin and not spec.submodule_search_locations:
        yield Path(spec.origin)


def _plain(result: Result, seen: Mapping[int, TokenRecord]) -> dict[str, Any]:
    return {
        "id": result.id,
        "text": result.text,
        "token_ids": result.token_ids,
        "prompt_token_ids": result.prompt_token_ids,
        "finish_reason": result.finish_reason,
        "seen": [[index, record.token, record.argmax, record.gap, record.value] for index, record in seen.items()],
    }


def _parse(entry: Any, identity: Mapping[str, Any]) -> Answers:
    """Return what was kept; raise ValueError, TypeError or KeyError for what `write` did not write for this run."""
    if entry["format"] != FORMAT or entry["identity"] != identity:
        raise ValueError("of another format or run")
    results = [
        Result(
            id=answer["id"],
            text=answer["text"],
            token_ids=tuple(answer["token_ids"]),
            prompt_token_ids=tuple(answer["prompt_token_ids"]),
            finish_reason=answer["finish_reason"],
            measures=NOT_MEASURED,
        )
        for answer in entry["answers"]
    ]
    return results, [{index: TokenRecord(*rest) for index, *rest in answer["seen"]} for answer in entry["answers"]]
