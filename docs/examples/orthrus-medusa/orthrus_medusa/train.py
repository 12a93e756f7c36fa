"""Trains heads for a decoder's target, on what it writes itself: `python -m orthrus_medusa.train --help`."""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

import orthrus
from orthrus import Chance, Context, Decoder, Draft, Prompt, Step, TappedStates
from orthrus_medusa.drafter import MedusaDrafter
from orthrus_medusa.heads import BLOCKS, blocked

Text = tuple[Tensor, Tensor]  # tokens [n], and the states [n - 1, h] of all but the newest


class Recorder:
    """A drafter that drafts nothing and keeps the states it is handed, by the number of the prompt."""

    needs: frozenset[str] = frozenset({"hidden_states"})
    learns = False
    taps = ("final",)

    def __init__(self) -> None:
        self.states: dict[int, list[Tensor]] = defaultdict(list)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget nothing."""

    def observe(self, step: Step) -> None:
        """What it keeps comes with the taps."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return no draft."""
        return context.empty_draft()

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Keep the states of committed tokens; it may wait for the device, as nobody decodes for speed here."""
        rows = range(len(context.rows)) if tapped.rows is None else tapped.rows.tolist()
        for row, states, count in zip(rows, tapped.states, tapped.counts.tolist(), strict=True):
            self.states[context.rows[row].request].append(states[:count].float().clone())


def written(decoder: Decoder, prompts: Sequence[Prompt]) -> list[Text]:
    """Return what the target answers, with its states."""
    recorder = Recorder()
    recording = Decoder.of(decoder.target, recorder, decoder.verifier, decoder.stop)
    texts = []
    for number, result in enumerate(recording.generate(prompts, batch=len(prompts))):
        tokens = torch.tensor([*result.prompt_token_ids, *result.token_ids])
        texts.append((tokens, torch.cat(recorder.states[number])[: len(tokens) - 1]))
    return texts


def train(target: Any, texts: Sequence[Text], heads: int, steps: int, seed: int = 0) -> Tensor:
    """Return blocks [K, h, h]: head k is trained on the token that is 1 + k places after a state's own."""
    torch.manual_seed(seed)
    head = target.head(torch.eye(target.hidden_size, device=target.device, dtype=target.dtype)[None])[0].float()
    texts = [text for text in texts if len(text[0]) > heads + 1]  # shorter ones have no token for the last head
    if not texts:
        raise orthrus.InputError(f"every text is shorter than the {heads + 2} tokens that {heads} heads learn from")
    states = torch.cat([states[: len(tokens) - 1 - heads] for tokens, states in texts])  # [N, h]
    truth = torch.cat([tokens[2:].unfold(0, heads, 1) for tokens, _ in texts]).to(states.device)  # [N, K]
    blocks = torch.zeros(heads, *2 * [target.hidden_size], device=states.device, requires_grad=True)
    optimizer = torch.optim.AdamW([blocks], lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        chosen = torch.randint(len(states), (256,), device=states.device)
        logits = blocked(states[chosen], blocks) @ head  # the target's head is one matrix
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), truth[chosen].flatten()).backward()
        optimizer.step()
    return blocks.detach()


def main() -> None:
    """Train on four fifths of the prompts, decode the others with the heads, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a run file; its drafter is not used")
    parser.add_argument("--prompts", type=Path, required=True, help='JSONL: {"prompt": text or token ids} a line')
    parser.add_argument("--out", type=Path, required=True, help="a directory for the heads")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    prompts = [json.loads(line)["prompt"] for line in given.prompts.read_text(encoding="utf-8").splitlines()]
    if len(prompts) < 5:
        raise orthrus.InputError(
            f"{given.prompts} has {len(prompts)} prompts; give five or more, one of which is kept back"
        )
    plain = orthrus.load(given.config, drafter="none")
    unseen, seen = prompts[: len(prompts) // 5], prompts[len(prompts) // 5 :]
    blocks = train(plain.target, written(plain, seen), given.heads, given.steps)
    given.out.mkdir(parents=True, exist_ok=True)
    save_file({BLOCKS: blocks}, given.out / "model.safetensors")
    drafter = MedusaDrafter(plain.target, blocks.to(plain.target.dtype))
    decoder = Decoder.of(plain.target, drafter, plain.verifier, plain.stop)
    answers, expected = (each.generate(unseen, batch=len(unseen)) for each in (decoder, plain))
    same = sum(mine.token_ids == other.token_ids for mine, other in zip(answers, expected, strict=True))
    accepted = orthrus.summarize([answer.measures for answer in answers]).accepted_length.pooled
    orthrus.echo(f"{same} of {len(unseen)} texts are those of plain decoding; accepted a cycle: {accepted:.2f}")


if __name__ == "__main__":
    main()
