r"""Write a view of random weights: it costs what any view costs, and hardly ever drafts a token that is accepted.

python docs/examples/random_view.py --out random-view
orthrus bench --config configs/recipes/smollm2-diffusion.yaml --baseline none --against none \
    --prompts mt_bench.jsonl --limit 4 drafter.view=random-view drafter.block=auto
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from orthrus import InputError
from orthrus_diffusion.view_files.config import parse_config, read_config
from orthrus_diffusion.view_files.formats import read_view, write_view
from orthrus_diffusion.view_files.shipped import VIEWS


def random_weights(view: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return normally distributed weights of the view's shapes, each as widely spread as the one in its place."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(weight.shape, generator=generator) * weight.float().std() for name, weight in view.items()
    }


def main() -> int:
    """Write the view for the base model of another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", type=Path, default=VIEWS / "smollm2-135m-instruct", help="a view's directory")
    parser.add_argument("--out", type=Path, required=True, help="a new directory")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        values = read_config(given.like)
        config, weights = parse_config(values, given.like), random_weights(read_view(given.like), given.seed)
        write_view(given.out, weights, config, str(values.get("storage", "float")))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
