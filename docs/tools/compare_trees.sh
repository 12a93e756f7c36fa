#!/usr/bin/env bash
# Trees of the shipped view on a GPU, beside chains and plain decoding, prompt by prompt in turns:
#   bash docs/tools/compare_trees.sh PROMPTS.jsonl RECORD.jsonl
# SmolLM2-135M-Instruct, bfloat16, batch 1, the first 40 prompts, 256 new tokens. The twelve prompts of the
# warm-up do not count: in them graphs are captured and pass costs measured.
set -e
exec "${PYTHON:-python}" docs/tools/compare_drafters.py --config configs/recipes/smollm2-diffusion-gpu.yaml \
    --prompts "$1" --limit 40 --tokens 256 --warm-up 12 --out "$2" \
    --drafter 'plain={name: none}' \
    --drafter 'chain={name: diffusion, block: auto}' \
    --drafter 'tree 32={name: diffusion, tree: 32}' \
    --drafter 'tree 63={name: diffusion, tree: 63}' \
    --drafter 'tree auto={name: diffusion, tree: auto}'
