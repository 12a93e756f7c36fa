"""A target's logits under sampling settings, at one place of one sequence, as plainly as it can be written.

It shares no code with the loop's own processing, which does whole drafts of whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from orthrus.settings import Sampling, Stop

NEVER = float("-inf")


def processed(logits: Tensor, prompt: Sequence[int], output: Sequence[int], stop: Stop, sampling: Sampling) -> Tensor:
    """Return the logits [V], in float64, whose softmax the next token is drawn from after a prompt and some output.

    Bad words are token ids. At temperature 0 the next token is the argmax of what is returned.
    """
    logits = logits.double().clone()
    for token, bias in sampling.logit_bias.items():
        logits[token] += bias
    for token in {*prompt, *output} if sampling.repetition_penalty != 1 else ():
        logits[token] *= sampling.repetition_penalty if logits[token] < 0 else 1 / sampling.repetition_penalty
    for token in set(output) if sampling.presence_penalty or sampling.frequency_penalty else ():
        logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * list(output).count(token)
    for word in sampling.bad_words:
        assert not isinstance(word, str), "bad words must be token ids here"
        *beginning, last = word
        if [*prompt, *output][len(prompt) + len(output) - len(beginning) :] == beginning:
            logits[last] = NEVER
    if len(output) < stop.min_new_tokens:
        logits[sorted(stop.token_ids)] = NEVER
    return _cut(logits / sampling.temperature, sampling) if sampling.temperature else logits


def _cut(logits: Tensor, sampling: Sampling) -> Tensor:
    if sampling.top_k is not None:
        logits = _only(logits, _likeliest_first(logits)[: sampling.top_k])
    if sampling.top_p < 1:
        logits = _only(logits, _fewest(logits, sampling.top_p))
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1).tolist()
        least = sampling.min_p * max(probabilities)
        logits = _only(logits, [token for token, probability in enumerate(probabilities) if probability >= least])
    return logits


def _fewest(logits: Tensor, mass: float) -> list[int]:
    """Return the fewest likeliest tokens that have this probability together."""
    probabilities = logits.softmax(-1).tolist()
    tokens: list[int] = []
    together = 0.0
    for token in _likeliest_first(logits):
        if tokens and together >= mass:
            break
        tokens.append(token)
        together += probabilities[token]
    return tokens


def _likeliest_first(logits: Tensor) -> list[int]:
    values = logits.tolist()
    return sorted(range(len(values)), key=lambda token: -values[token])


def _only(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    masked = logits.new_full(logits.shape, NEVER)
    masked[list(tokens)] = logits[list(tokens)]
    return masked
