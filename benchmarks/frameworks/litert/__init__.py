"""LiteRT, TensorFlow Lite's successor: capabilities and environment. Imports no framework.

Its models are converted from TensorFlow's implementations, in a separate process.
"""

from __future__ import annotations

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="litert",
    import_name="ai_edge_litert",
    distributions=("ai-edge-litert",),
    executions=("graph",),
    precisions={"cpu": ("fp32", "int8"), "metal": ()},
    asynchronous_devices=(),
    out_of_memory_patterns=(r"bad_alloc", r"[Oo]ut of memory", r"failed to allocate"),
    unsupported=(
        Unsupported(
            reason="an interpreter runs whole models only: it has no eager execution",
            link="https://ai.google.dev/edge/litert/inference",
            execution="eager",
        ),
        Unsupported(
            reason="kernels are chosen when a model is loaded, not compiled: see execution=graph",
            link="https://ai.google.dev/edge/litert/inference",
            execution="compiled",
        ),
        Unsupported(
            reason="LiteRT's CPU kernels have no bf16",
            link="https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization",
            device="cpu",
            precision="bf16",
        ),
    ),
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before LiteRT is imported, and before TensorFlow converts a model."""
    return {"OMP_NUM_THREADS": str(settings.num_threads), "TF_CPP_MIN_LOG_LEVEL": "2"}
