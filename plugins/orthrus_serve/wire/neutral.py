"""Fields of OpenAI's interface, and of servers like it, that are taken only with a value that asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orthrus.errors import shown

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (True,),
    "audio": (),
    "best_of": (1,),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": ([],),
    "function_call": ("none",),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "skip_special_tokens": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}


def without_neutral(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without those that ask for nothing; raise ValueError with a name for one that does."""
    for name, neutral in NEUTRAL.items():
        value = body.get(name)
        if value is not None and not any(_same(value, taken) for taken in neutral):
            values = " or ".join(shown(taken) for taken in neutral)
            hint = f"; only {values} is taken" if values else ""
            raise ValueError(f"'{name}' is not supported{hint}")
    return {name: value for name, value in body.items() if name not in NEUTRAL}


def _same(value: object, taken: object) -> bool:
    return type(value) is type(taken) and value == taken
