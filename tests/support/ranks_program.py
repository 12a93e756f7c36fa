"""The program of one rank: decodes a task's prompts with each of its configs, and prints tokens and passes as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import orthrus


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = []
    for cell in task["cells"]:
        decoder = orthrus.load(cell)
        results = decoder.generate(task["prompts"], batch=4)
        answers.append([(list(result.token_ids), result.measures.passes) for result in results])
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
