"""The certifier: decodes every config at every batch with a recording verifier, and checks runs against a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from orthrus.build import TargetPool, build, build_target
from orthrus.config.schema import Config, PartConfig
from orthrus.decoder import Decoder
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.optional import WidenedTarget, is_coupled
from orthrus.ranks.together import check_shared, together_of
from orthrus.registry.catalog import PLAIN
from orthrus.registry.plugins import Plugins
from orthrus.values import Prompt, Result
from orthrus.verification.certificate import Certificate, Control, differing, logit_error, wrong_tokens
from orthrus.verification.expected import unit
from orthrus.verification.lossy_parts import LossyPart, lossy_parts
from orthrus.verification.mismatch import Divergence
from orthrus.verification.recording_verifier import RecordingVerifier, TokenRecord
from orthrus.verification.reference_check import Judgement, ReferenceCheck, dtype_name, unique
from orthrus.verification.run_cache import Answers, KeptRuns, identity_of
from orthrus.verification.teacher_forcing import Logits

PLAIN_BATCHES = (1, 8)  # of the control; the first is greedy decoding as it is meant
Advance = Callable[[Any], None]
Tried = tuple[PartConfig | None, PartConfig | None, torch.device, torch.dtype]  # cache and attention, and where


@dataclass(frozen=True)
class Asked:
    """A requested run. plain: the config without drafts."""

    label: str
    config: Config
    plain: Config
    batch: int


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded run: the answers, and the record of each token of each."""

    decoder: Decoder
    results: Sequence[Result]
    seen: Sequence[dict[int, TokenRecord]]


@dataclass(eq=False)
class Runs:
    """Decode prompts by configs, each once at a batch; configs that agree in their target share it and its reference.

    prompts: each with its id. chat: as in `Decoder.generate`. run_cache: where runs that were decoded are, if anywhere.
    """

    plugins: Plugins
    prompts: Sequence[tuple[str, Prompt]]
    chat: bool | None = None
    notify: Callable[[str], None] | None = None
    run_cache: KeptRuns | None = None
    _wide: list[tuple[PartConfig | None, torch.dtype, Logits]] = field(default_factory=list)
    _references: list[tuple[Config, ReferenceCheck]] = field(default_factory=list)
    _decoders: list[tuple[Config, Decoder]] = field(default_factory=list)
    _decoded: list[tuple[Config, int, Decoded]] = field(default_factory=list)
    _lossy: list[tuple[Tried, tuple[LossyPart, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._targets: TargetPool[Target] = TargetPool(self._make_target)

    def _make_target(self, config: Config) -> Target:
        target = build_target(config, self.plugins, self.notify)
        check_shared(target)
        return target

    def prepare(self, config: Config) -> ReferenceCheck:
        """Return the reference of a config, its target built; raise InputError if its runs cannot be certified."""
        check_verifiable(self.decoder(config))
        return self._reference(config)

    def decode(self, config: Config, batch: int, advance: Advance) -> Decoded:
        """Return the run of a config, decoding now if it has not been."""
        for known, size, decoded in self._decoded:
            if (known, size) == (config, batch):
                for _ in self.prompts:
                    advance(None)
                return decoded
        decoder = self.decoder(config)
        decoded = Decoded(decoder, *self._answers(config, decoder, batch, advance))
        self._decoded.append((config, batch, decoded))
        return decoded

    def certify(self, asked: Asked, oracle_sample: int, advance: Advance = lambda result: None) -> Certificate:
        """Return the certificate of a run that was decoded, once all that its reference has to see was judged."""
        decoded, reference = self.decode(asked.config, asked.batch, _ignore), self._reference(asked.config)
        judged = [reference.judge(result) for result in decoded.results]
        divergences = _failures(decoded, judged, reference)
        replayed = set() if reference.narrow else spread(len(judged), oracle_sample)
        for index in sorted(replayed):
            parted = reference.replay(decoded.results[index])  # where float64 decided a tie, the oracle may part
            divergences[index] = divergences[index] or [
                divergence for divergence in parted if divergence.position not in judged[index].disputed
            ]
        identical = sum(
            not answer_divergences and not any(each.forced.gaps)
            for answer_divergences, each in zip(divergences, judged, strict=True)
        )
        control = None
        if reference.narrow or (identical < len(judged) and not any(divergences)):
            plain, batched = (self.decode(asked.plain, batch, advance).results for batch in PLAIN_BATCHES)
            control = Control(differing(plain, batched), len(plain), min(PLAIN_BATCHES[-1], len(plain)))
            if reference.narrow:
                identical = len(plain) - differing(decoded.results, plain)
        lossy = self._lossy_parts(asked.config, reference)
        return _certificate(asked, decoded, judged, divergences, reference, identical, control, len(replayed), lossy)

    def answers(self, asked: Sequence[Asked]) -> list[tuple[ReferenceCheck, Result]]:
        """Return all different answers of runs that were decoded, each with its reference."""
        certificates = []
        for reference in dict.fromkeys(self._reference(run.config) for run in asked):
            mine = [run for run in asked if self._reference(run.config) is reference]
            results = [result for run in mine for result in self.decode(run.config, run.batch, _ignore).results]
            certificates += [(reference, result) for result in unique(results)]
        return certificates

    def _answers(self, config: Config, decoder: Decoder, batch: int, advance: Advance) -> Answers:
        """Return the answers of a run and what was seen of them: those that are kept, or decoded now and kept."""
        if self.run_cache is None:
            return self._watched(decoder, batch, advance)
        identity = identity_of(config, batch, self.prompts, self.chat, decoder)
        drafter = config.drafter.entry.name if config.drafter else PLAIN
        label = f"drafter {drafter}, batch {batch}"
        together, run_cache = together_of(decoder.target), self.run_cache
        if read := together.made_by_lead(lambda: run_cache.read(identity, label)):
            for _ in self.prompts:
                advance(None)
            return read
        decoded = self._watched(decoder, batch, advance)
        if together.leads:
            run_cache.write(identity, decoded, label)
        return decoded

    def _watched(self, decoder: Decoder, batch: int, advance: Advance) -> Answers:
        recorder = RecordingVerifier(decoder.verifier)
        ids, texts = [id for id, _ in self.prompts], [prompt for _, prompt in self.prompts]
        watched = replace(decoder, verifier=recorder, watchers=None)  # a run is what it is without listeners
        results = watched.generate(texts, ids=ids, batch=batch, chat=self.chat, on_result=advance)
        return results, recorder.seen(results)

    def decoder(self, config: Config) -> Decoder:
        """Return the decoder of a config, built now if it has not been."""
        for known, decoder in self._decoders:
            if known == config:
                return decoder
        decoder = build(config, self.plugins, {"target": self._targets.of(config)}, self.notify)
        self._decoders.append((config, decoder))
        return decoder

    def _reference(self, config: Config) -> ReferenceCheck:
        key = replace(config, drafter=None, verifier=None, attention=None, cache=None, sections={}, watchers={})
        for known, reference in self._references:
            if known == key:
                return reference
        decoder = self.decoder(config)
        reference = ReferenceCheck(decoder, lambda dtype: self._widened(config, decoder.target, dtype))
        self._references.append((key, reference))
        return reference

    def _lossy_parts(self, config: Config, reference: ReferenceCheck) -> tuple[LossyPart, ...]:
        """Return the parts that are not exact, tried once for all runs that have them."""
        tried = (config.cache, config.attention, reference.device, reference.dtype)
        for known, lossy in self._lossy:
            if known == tried:
                return lossy
        lossy = lossy_parts(config, reference.device, reference.dtype)
        self._lossy.append((tried, lossy))
        return lossy

    def _widened(self, config: Config, target: Any, dtype: torch.dtype) -> Logits | None:
        """Return logits of the same weights in another dtype, made once for all configs with this target."""
        for known, at, logits in self._wide:
            if (known, at) == (config.target, dtype):
                return logits
        if not isinstance(target, WidenedTarget):
            return None
        wide_logits: Logits = target.widened(dtype)
        self._wide.append((config.target, dtype, wide_logits))
        return wide_logits


def _ignore(_: Any) -> None: ...


def _failures(decoded: Decoded, judged: Sequence[Judgement], reference: ReferenceCheck) -> list[list[Divergence]]:
    """Return what does not pass in each answer."""
    size, bound = unit(decoded.decoder), reference.bound
    return [
        [*wrong_tokens(result, seen, judgement, bound, size, reference.narrow), *judgement.wrong_end]
        for result, seen, judgement in zip(decoded.results, decoded.seen, judged, strict=True)
    ]


def _certificate(
    asked: Asked,
    decoded: Decoded,
    judged: Sequence[Judgement],
    answer_divergences: Sequence[Sequence[Divergence]],
    reference: ReferenceCheck,
    identical: int,
    control: Control | None,
    oracle_checked: int,
    lossy: tuple[LossyPart, ...],
) -> Certificate:
    size = unit(decoded.decoder)
    triples = list(zip(decoded.results, decoded.seen, judged, strict=True))
    wrong = {(divergence.id, divergence.position) for divergences in answer_divergences for divergence in divergences}
    return Certificate(
        label=asked.label,
        batch=asked.batch,
        dtype=dtype_name(reference.dtype),
        temperature=decoded.decoder.sampling.temperature,
        prompts=len(decoded.results),
        tokens=sum(len(result.token_ids) for result in decoded.results),
        identical=identical,
        ties=sum((result.id, index) not in wrong for result, _, judgement in triples for index in judgement.disputed),
        certified=sum(not divergences for divergences in answer_divergences),
        bound=reference.bound,
        error=reference.error,
        roundoffs=reference.roundoffs,
        logit_error=max((logit_error(*triple, size) for triple in triples), default=None),
        control=control,
        oracle_checked=oracle_checked,
        gaps=tuple(gap for judgement in judged for gap in judgement.forced.gaps if not gap <= 0),
        divergences=tuple(divergence for divergences in answer_divergences for divergence in divergences),
        lossy=lossy,
    )


def check_verifiable(decoder: Decoder) -> None:
    """Raise InputError if nothing decides which text is right: sampling whose noise cannot be asked for again."""
    temperature = decoder.sampling.temperature
    if temperature > 0 and not is_coupled(decoder.verifier):
        raise InputError(
            f"only greedy decoding and coupled sampling can be verified: sampling.temperature is {temperature:g},"
            f" and verifier '{type(decoder.verifier).__name__}' draws anew each time"
        )


def spread(total: int, most: int) -> set[int]:
    """Return so many numbers below the total, evenly spread."""
    count = min(total, most)
    return {index * total // count for index in range(count)} if count else set()
