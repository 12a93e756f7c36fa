#!/usr/bin/env bash
# One guesses: of a Triton kernel two forms, one with a mask and one that leaves the mask out where nothing can be
# hidden, give the same bits, as each line is computed as it is written.
# It is so: without the mask between them the compiler makes one instruction of a product and the difference that
# follows, which rounds once instead of twice. `enable_fp_fusion=False`, an option of the launch, keeps them apart.
# Where it bites: attention. `exp(q k scale - maximum)` has other bits in blocks of keys that are all seen than in the
# last block, so a token's result depends on where the mask begins; and the largest score's weight is not exactly 1, but
# may be above. Version 3.9 warns that 3.10 will keep them apart by default. No GPU is needed to see it: the kernel is
# compiled, not run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check triton==3.9.0
cat > "$folder/try.py" <<'PY'
import importlib.metadata
import re
import struct

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def distances(numbers, length, scale, most, out, HIDES: tl.constexpr):
    n = tl.arange(0, 64)
    score = tl.load(numbers + n) * scale
    if HIDES:
        score = tl.where(n < length, score, float("-inf"))
    tl.store(out + n, score - most)


def joined(hides: bool, **options: bool) -> int:
    types = {"numbers": "*fp32", "length": "i32", "scale": "fp32", "most": "fp32", "out": "*fp32", "HIDES": "constexpr"}
    source = ASTSource(fn=distances, signature=types, constexprs={(5,): hides})
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return len(re.findall(r"\bfma\.rn\.f32", code.asm["ptx"]))


def rounded(number: float) -> float:
    return struct.unpack("f", struct.pack("f", number))[0]


print("triton", importlib.metadata.version("triton"), "compiles `x * scale - most` for sm_90")
plain, masked, apart = joined(hides=False), joined(hides=True), joined(hides=False, enable_fp_fusion=False)
print("instructions that round product and difference at once")
print("  without a mask                           ", plain)
print("  with a mask between them                 ", masked)
print("  without a mask, enable_fp_fusion=False   ", apart)
x, scale = rounded(3.9), rounded(128**-0.5)
most = rounded(x * scale)  # the largest score, as a kernel has it; float32 products are exact in float64
print("the largest score less itself, rounded twice", rounded(most - most), "and at once", rounded(x * scale - most))
assert plain > 0, "they are no longer joined"
assert masked == apart == 0, "they are joined behind a mask, too, or in spite of the option"
assert rounded(x * scale - most) > 0
PY
TRITON_CACHE_DIR="$folder/cache" "$folder/env/bin/python" "$folder/try.py"
