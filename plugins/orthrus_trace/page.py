"""The page of a trace: one HTML file that needs no other, and no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orthrus_trace import svg
from orthrus_trace.statistics import along_text, cycles_of, positions, seconds_by_part, totals
from orthrus_trace.trace_file import Trace, TracedRequest, TracedStep

STYLE = """
:root { color-scheme: light dark; --accepted: #00875a; --soft: #00875a22; --line: #8884; --refused: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --accepted: #4ade80; --soft: #4ade8022; --refused: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; font-weight: normal; }
td { font-variant-numeric: tabular-nums; font-weight: 600; }
svg { width: 100%; height: auto; overflow: visible; } svg text { font-size: 12px; fill: currentColor; }
.grid { stroke: var(--line); } rect.accepted { fill: var(--accepted); }
rect.drafted { fill: none; stroke: var(--accepted); stroke-width: .5; opacity: .6; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.7 ui-monospace, monospace; border: 1px solid
  var(--line); border-radius: .4rem; padding: .6rem .8rem; }
.text b { font-weight: normal; color: var(--accepted); background: var(--soft); border-radius: .15rem; }
.text s { display: none; color: var(--refused); opacity: .75; }
.text i { font-style: normal; opacity: .5; }
#refused:checked ~ section s { display: inline; }
.note { opacity: .75; }
"""


def page(trace: Trace, name: str, most: int) -> str:
    """Return the page of a trace; name: of its file; most: of how many requests the text is shown."""
    title = escape(f"Trace {name}")
    shown = "".join(_request(request) for request in trace.requests[:most])
    rest = len(trace.requests) - most
    more = f'<p class="note">The texts of {rest} more requests are not shown.</p>' if rest > 0 else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n{_summary(trace)}\n{_charts(trace)}\n<h2>Texts</h2>\n{_legend()}{shown}{more}"
        "</body></html>\n"
    )


def _summary(trace: Trace) -> str:
    sums = totals(trace)
    rows = {
        "target": trace.target,
        "drafter": trace.drafter,
        "requests": f"{sums.requests:,}",
        "steps": f"{sums.prefills:,} prefills, {sums.steps:,} cycles",
        "new tokens": f"{sums.new_tokens:,}",
        "drafts": f"{sums.accepted:,} of {sums.drafted:,} accepted",
        "accepted drafts a cycle": "none" if sums.accepted_length is None else f"{sums.accepted_length:.2f}",
        "seconds": f"{sums.seconds:.3f}",
    }
    cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items())
    cut = '<p class="note">The last line of the trace was cut short and is left out.</p>' if trace.cut else ""
    return f"<table>{cells}</table>{cut}"


def _charts(trace: Trace) -> str:
    places = positions(cycles_of(trace))
    drafts = svg.acceptance(places) if places else '<p class="note">Nothing was drafted.</p>'
    return (
        f"<h2>Accepted drafts by position</h2>\n{drafts}\n"
        f"<h2>Time by part</h2>\n{svg.time_by_part(seconds_by_part(trace))}"
    )


def _legend() -> str:
    return (
        '<input type="checkbox" id="refused"> <label for="refused">show refused drafts</label>'
        '<p class="note"><span class="text" style="padding:.1rem .3rem"><b>accepted drafts</b> the target\'s own'
        " tokens</span> Above each text: what each cycle drafted, in outline, and what was accepted, filled.</p>\n"
    )


def _request(request: TracedRequest) -> str:
    cycles = request.cycles
    ended = request.finish_reason or "not seen to end"
    drafts = svg.along_text(along_text(cycles)) if any(cycle.drafted for cycle in cycles) else ""
    text = "".join(_step(step) for step in request.steps)
    tokens = sum(len(step.committed) for step in request.steps)
    heading = f"Request {escape(request.id)} <small>{tokens} tokens, {len(cycles)} cycles, {escape(ended)}</small>"
    return f'<section><h3>{heading}</h3>{drafts}<div class="text">{text}</div></section>\n'


def _step(step: TracedStep) -> str:
    """Return the tokens of a step, drafts marked, and behind them the drafts that were refused."""
    if step.parents:
        return _tree_step(step)
    texts = _shown(step.committed, step.texts)
    drafted = _shown(step.drafted, step.drafted_texts)
    accepted, own = "".join(texts[: step.accepted]), "".join(texts[step.accepted :])
    title = f' title="{step.accepted} of {len(step.drafted)} drafts accepted"' if step.drafted else ""
    marked = f"<b{title}>{accepted}</b>" if accepted else ""
    refused = "".join(drafted[index] for index in step.refused)
    return f"{marked}<span{title}>{own}</span>{_struck(refused)}"


def _tree_step(step: TracedStep) -> str:
    """Return the tokens of a step whose draft was a tree, behind each of them the branches that were refused there."""
    texts, drafted = _shown(step.committed, step.texts), _shown(step.drafted, step.drafted_texts)
    title = f' title="{step.accepted} accepted of {len(step.drafted)} drafts, a tree {step.longest} deep"'
    below = {place: [token for token in step.refused if step.parents[token] == place] for place in (-1, *step.kept)}
    pieces = [
        f"<b{title}>{text}</b>{_struck(_branches(below[place], step, drafted))}"
        for text, place in zip(texts[: step.accepted], (-1, *step.kept), strict=False)
    ]
    last = step.kept[-1] if step.kept else -1
    own = "".join(texts[step.accepted :])
    return f"{''.join(pieces)}<span{title}>{own}</span>{_struck(_branches(below[last], step, drafted))}"


def _branches(tokens: Sequence[int], step: TracedStep, drafted: Sequence[str]) -> str:
    """Return the branches that begin with these tokens of a tree, which are alternatives, and all that follows them."""
    branches = []
    for token in tokens:
        text, following = drafted[token], _children(token, step)
        while len(following) == 1:
            text, following = text + drafted[following[0]], _children(following[0], step)
        branches.append(text + (f"({_branches(following, step, drafted)})" if following else ""))
    return "<i>|</i>".join(branches)


def _children(token: int, step: TracedStep) -> list[int]:
    return [child for child in range(token + 1, len(step.parents)) if step.parents[child] == token]


def _struck(refused: str) -> str:
    """Return refused drafts as the page hides them; so that lines stay whole, without line ends."""
    return f"<s>{refused}</s>".replace("\n", "\u21b5") if refused else ""


def _shown(tokens: Sequence[int], texts: Sequence[str]) -> list[str]:
    """Return what is shown of each token: its text, or its number where it has none."""
    padded = [*texts, *[""] * (len(tokens) - len(texts))]
    return [_printable(text) if text else f"<i>[{token}]</i>" for token, text in zip(tokens, padded, strict=False)]


def _printable(text: str) -> str:
    """Return a text as it stands in a page: what HTML or UTF-8 cannot have is replaced."""
    kept = "".join(letter if letter in "\n\t" or letter.isprintable() else "\ufffd" for letter in text)
    return escape(kept)
