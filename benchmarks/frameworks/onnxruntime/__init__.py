"""ONNX Runtime: its capabilities and its environment. Imports no framework.

Its models are exported from PyTorch's implementations, in a separate process.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="onnxruntime",
    import_name="onnxruntime",
    distributions=("onnxruntime", "onnxruntime-gpu", "onnx"),
    executions=("graph",),
    precisions={
        "cpu": ("fp32", "int8"),
        "cuda": ("fp32", "tf32"),
        "metal": (),
    },
    asynchronous_devices=(),
    out_of_memory_patterns=(
        r"Failed to allocate memory",
        r"bad_alloc",
        r"CUDA_ERROR_OUT_OF_MEMORY",
        r"CUDNN_STATUS_ALLOC_FAILED",
    ),
    # onnxruntime 1.31 sends telemetry, and keeps a database in HOME, unless this is set:
    # https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md.
    import_variables=(("ORT_DISABLE_TELEMETRY", "1"),),
    limits_memory_on=("cuda",),
    unsupported=(
        Unsupported(
            reason="ONNX Runtime's attention with a KV cache (GroupQueryAttention) has no fp32 on"
            " CUDA",
            link="https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md",
            device="cuda",
            workload="transformer_infer",
        ),
        Unsupported(
            reason="a session runs whole graphs only: it has no eager execution",
            link="https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html",
            execution="eager",
        ),
        Unsupported(
            reason="kernels are chosen when a session is made, not compiled: see execution=graph",
            link="https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html",
            execution="compiled",
        ),
        Unsupported(
            reason="ONNX Runtime's CPU provider has no matmul in bf16",
            link="https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md",
            device="cpu",
            precision="bf16",
        ),
    ),
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before onnxruntime is imported, and before torch exports a model."""
    return {
        "OMP_NUM_THREADS": str(settings.num_threads),
        **dict(CAPABILITIES.import_variables),
        "CUDA_CACHE_PATH": str(Path(settings.cache_folder) / "cuda"),
    }
