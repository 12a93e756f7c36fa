"""On a CUDA device: every attention backend equals `eager` in float64, in passes and in their replayed recordings."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.attention import TOLERANCE, Case, keys_like_a_cache, rolled
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import CudaDrafter
from support.families import VOCABULARY, tiny_model

from orthrus import BuildError, Decoder, MaskDescription, Parts, Plugins, Result, Stop
from orthrus.paths import Paths
from orthrus_attention import split_kv
from orthrus_attention.eager import EagerAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own imports, for `flex`
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # its advice
]
DEVICE = "cuda"
NAMES = [entry.name for entry in Plugins.load().catalog if entry.kind == "attention"]
OPTIONAL = {"flash_attention_2", "flash_attention_3", "flash_attention_4"}  # packages that a user may have
SHAPES = [  # rows, key heads, query heads a key head, queries, size of a head, slots
    (1, 3, 3, 1, 64, 700),
    (2, 3, 3, 16, 64, 700),
    (1, 8, 4, 32, 128, 9000),
    (3, 2, 1, 5, 96, 300),
    (4, 2, 4, 1, 128, 5000),
    (2, 1, 8, 64, 256, 700),
    (3, 2, 2, 4, 8, 40),
]
NARROW = [torch.bfloat16, torch.float16]
EDGES = [  # a shape, the programs that `split` makes of it where it is laid out for speed, and its parts of the slots
    ((48, 2, 4, 8, 128, 1024), 96, 1),  # ENOUGH programs and FEW_SLOTS slots
    ((19, 5, 4, 8, 128, 1024), 95, 5),
    ((48, 2, 4, 8, 128, 1025), 96, 5),
    ((48, 2, 4, 8, 64, 1023), 96, 1),
    ((97, 1, 4, 8, 64, 1024), 97, 1),
    ((96, 1, 3, 5, 80, 300), 96, 1),  # 16 query rows a tile, not all of them there
    ((12, 4, 2, 40, 96, 700), 96, 1),  # two tiles of query rows, the second not full
    ((31, 1, 2, 85, 256, 130), 93, 2),
    ((8, 3, 3, 85, 256, 130), 96, 1),
    ((1, 8, 2, 1, 128, 8192), 8, 64),
    ((1, 8, 2, 64, 128, 8192), 8, 64),
    ((1, 8, 2, 65, 128, 8192), 24, 11),
]


def backend_of(name: str) -> Any:
    try:
        return Plugins.load().get("attention", name).load_factory()(None, Parts())
    except BuildError as error:
        if name not in OPTIONAL:
            raise
        pytest.skip(str(error))


def supporting(name: str, dtype: torch.dtype) -> Any:
    backend = backend_of(name)
    if backend.capabilities.dtypes and str(dtype).removeprefix("torch.") not in backend.capabilities.dtypes:
        pytest.skip(f"{name} does not compute in {dtype}")
    return backend


def sizes(backend: Any) -> Iterator[tuple[int, ...]]:
    taken = backend.capabilities.head_sizes
    return (shape for shape in SHAPES if not taken or shape[4] in taken)


def a_case(
    shape: tuple[int, ...], kind: str, window: int | None, dtype: torch.dtype, layout: str = "static", seed: int = 0
) -> Case:
    rows, heads, groups, queries, size, slots = shape
    torch.manual_seed(seed)
    if kind == "prefill":
        prompts = torch.randint(1, slots + 1, (rows,))
        prompts[0] = slots
        positions = rolled(prompts, slots - queries - 3, queries).to(DEVICE)
        lengths, read = torch.zeros(rows, dtype=torch.int64, device=DEVICE), positions < prompts.to(DEVICE)[:, None]
    else:
        lengths = torch.randint(0, slots - queries + 1, (rows,)).to(DEVICE)
        positions = lengths[:, None] + torch.arange(queries, device=DEVICE)
        read = torch.ones_like(positions, dtype=torch.bool)
    mask = MaskDescription("block" if kind == "block" else "causal", positions, lengths, slots)
    if kind == "tree":
        parents = [[int(torch.randint(-1, index, ())) for index in range(queries - 1)] for _ in range(rows)]
        paths = Paths(torch.tensor(parents, dtype=torch.int64, device=DEVICE).view(rows, queries - 1))
        mask = MaskDescription("tree", lengths[:, None] + paths.depths, lengths, slots, paths.seen)
    query = torch.randn(rows, queries, heads * groups, size).to(DEVICE, dtype).transpose(1, 2)
    key, value = (keys_like_a_cache(layout, (rows, heads, slots, size), dtype, DEVICE) for _ in range(2))
    return Case(query, key, value, mask, window, read)


def compare(got: torch.Tensor, case: Case) -> str | None:
    """Return what is wrong with an output, or None."""
    reference = EagerAttention()
    prepared = reference.prepare(case.mask, case.window, torch.float64)
    query, key, value = (states.double() for states in (case.query, case.key, case.value))
    wanted = reference.attend(query, key, value, prepared, scale=case.query.shape[3] ** -0.5)
    if not got.isfinite().all():
        return f"{int((~got.isfinite()).sum())} outputs are not finite"
    unread = ~case.read[:, None, :, None]
    error = float((got.double() - wanted).masked_fill(unread, 0).abs().max() / wanted.abs().max())
    return None if error < TOLERANCE[case.query.dtype] else f"off by {error:.3g}"


def attend(backend: Any, case: Case) -> torch.Tensor:
    prepared = backend.prepare(case.mask, case.window, case.query.dtype)
    out: torch.Tensor = backend.attend(case.query, case.key, case.value, prepared, scale=case.query.shape[3] ** -0.5)
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", ["score", "block", "prefill", "tree"])
@pytest.mark.parametrize("name", NAMES)
def test_backend_equals_eager(name: str, kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    backend = supporting(name, dtype)
    if kind == "tree" and kind not in backend.capabilities.kinds:
        pytest.skip(f"{name} takes no trees")
    if shape not in sizes(backend):
        pytest.skip(f"{name} takes no heads of {shape[4]}")
    complaints = []
    for window in (None, 1, 16):
        for layout in ("static", "gathered", "transposed"):
            problem = compare(attend(backend, case := a_case(shape, kind, window, dtype, layout)), case)
            complaints += [f"window {window}, {layout}: {problem}"] if problem else []
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("kind", ["score", "block", "prefill", "tree"])
@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize(("shape", "programs", "splits"), EDGES, ids=lambda value: str(value).replace(" ", ""))
def test_split_is_right_however_it_divides_the_slots(
    shape: tuple[int, ...],
    programs: int,
    splits: int,
    steady: bool,
    kind: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[tuple[int, int, int]] = []
    real = split_kv.split_count

    def note(heads: int, tiles: int, slots: int, rows: int) -> int:
        count = real(heads, tiles, slots, rows)
        chosen.append((heads * tiles, slots, count))
        return count

    monkeypatch.setattr(split_kv, "split_count", note)
    monkeypatch.setattr(split_kv, "is_steady", lambda *given: steady)  # whatever a pass has
    complaints = []
    for window in (None, 1, 100):  # a few tiles of slots
        for layout in ("static", "transposed"):
            problem = compare(
                attend(split_kv.SplitAttention(), case := a_case(shape, kind, window, dtype, layout)), case
            )
            complaints += [f"window {window}, {layout}: {problem}"] if problem else []
    assert not complaints, "\n".join(complaints)
    assert set(chosen) == (set() if steady else {(programs, shape[-1], splits)})


@pytest.mark.parametrize("kind", ["score", "block", "tree"])
@pytest.mark.parametrize("name", NAMES)
def test_recordings_follow_the_lengths(name: str, kind: str) -> None:
    backend = backend_of(name)
    if kind == "tree" and kind not in backend.capabilities.kinds:
        pytest.skip(f"{name} takes no trees")
    complaints = []
    for shape in sizes(backend):
        for window in (None, 16):
            complaints += replayed(backend, shape, kind, window)
    assert not complaints, "\n".join(complaints)


def replayed(backend: Any, shape: tuple[int, ...], kind: str, window: int | None) -> list[str]:
    """Capture a pass, replay it over other lengths and keys, and complain where it is not what eager gives."""
    case = a_case(shape, kind, window, torch.bfloat16)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            attend(backend, case)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attend(backend, case)
    complaints = []
    for seed in range(3):
        other = a_case(shape, kind, window, torch.bfloat16, seed=seed + 1)
        for name in ("query", "key", "value"):
            getattr(case, name).copy_(getattr(other, name))
        case.mask.positions.copy_(other.mask.positions)
        case.mask.lengths.copy_(other.mask.lengths)
        if case.mask.paths is not None and other.mask.paths is not None:
            case.mask.paths.copy_(other.mask.paths)
        graph.replay()
        problem = compare(out, case)
        complaints += [f"{shape}, window {window}, replay {seed}: {problem}"] if problem else []
    return complaints


@pytest.mark.parametrize("engine", ["eager", "graphed"])
@pytest.mark.parametrize("family", ["llama", "mistral"])  # mistral has a window
@pytest.mark.parametrize("name", NAMES)
def test_text_in_float32_is_the_oracles(name: str, family: str, engine: str) -> None:
    model = tiny_model(family, dtype=torch.float32, head_dim=16).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=16), supporting(name, torch.float32), engine=engine)
    prompts, stop = some_prompts(), Stop(30)
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    for batch in (5, 2):
        drafter = CudaDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
        assert_lossless(decode_with(target, drafter, prompts, stop, batch=batch), answers)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("name", NAMES)
def test_tokens_in_narrow_types_differ_by_rounding_only(name: str, family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype, head_dim=16).cuda()
    exact = copy.deepcopy(model).double()
    target = TransformersTarget(model, None, StaticCache(slots=16), supporting(name, dtype), engine="graphed")
    prompts, stop = some_prompts(), Stop(30)
    drafter = CudaDrafter([[0] * 30] * len(prompts), VOCABULARY, 0.7, [0, 3, 6])
    decoder = Decoder.of(target, drafter, Consensus(), stop)
    results = decoder.generate(prompts, batch=5)
    gaps, error = in_float64(exact, target, results)
    assert max(gaps) <= 2 * error, (max(gaps), error)  # each of two logits is off by no more than the model's own
    assert sum(gap > 0 for gap in gaps) < len(gaps) / 10


@torch.no_grad()
def in_float64(exact: Any, target: TransformersTarget, results: list[Result]) -> tuple[list[float], float]:
    """Return by how much the likeliest token's exact logit exceeds each token's, and the model's own largest error.

    exact: the model with the same weights in float64, run over the texts that were decoded.
    """
    gaps, error = [], 0.0
    for result in results:
        tokens = [*result.prompt_token_ids, *result.token_ids]
        wanted = exact(torch.tensor([tokens], device=DEVICE)).logits[0]
        error = max(error, float((target.logits(tokens, len(tokens)).double() - wanted).abs().max()))
        before = wanted[len(result.prompt_token_ids) - 1 : -1]  # [T, V]
        chosen = before.gather(1, torch.tensor(result.token_ids, device=DEVICE)[:, None])[:, 0]
        gaps += (before.amax(-1) - chosen).tolist()
    return gaps, error


def some_prompts() -> list[list[int]]:
    chooser = random.Random(0)
    return [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
