"""Baselines of other programs, for `orthrus bench`: llama.cpp, ONNX Runtime GenAI and vLLM, if they are installed."""

from orthrus import hookimpl
from orthrus.hookspecs import Register

LLAMA_CPP, ONNX, VLLM = (f"orthrus_baselines.{name}:make" for name in ("llama_cpp", "onnxruntime_genai", "vllm"))
OPTIONS = "orthrus_baselines.options"


@hookimpl
def register_baselines(register: Register) -> None:
    register("llama_cpp", LLAMA_CPP, options=f"{OPTIONS}:LlamaCppOptions")
    register("llama_cpp-ngram", LLAMA_CPP, options=f"{OPTIONS}:LlamaCppNgramOptions")
    register("onnxruntime_genai", ONNX, options=f"{OPTIONS}:OnnxRuntimeOptions")
    register("vllm", VLLM, options=f"{OPTIONS}:VllmOptions")
    register("vllm-ngram", VLLM, options=f"{OPTIONS}:VllmNgramOptions")
