"""LiteRT, TensorFlow Lite's successor: what it can do, and its environment. Imports no framework.

Its models are converted from TensorFlow's implementations, in a process of their own.
"""

from __future__ import annotations

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="litert",
    import_name="ai_edge_litert",
    # The converter's identify a result as well: other models come out of other versions.
    distributions=("ai-edge-litert",),
    executions=("graph",),
    precisions={"cpu": ("fp32", "int8"), "metal": ()},
    asynchronous_devices=(),
    out_of_memory_patterns=(r"bad_alloc", r"[Oo]ut of memory", r"failed to allocate"),
    unsupported=(
        Unsupported(
            reason="an interpreter runs a whole model: operation by operation there is none",
            link="https://ai.google.dev/edge/litert/inference",
            execution="eager",
        ),
        Unsupported(
            reason="kernels are chosen when a model is loaded, not compiled: that is graph",
            link="https://ai.google.dev/edge/litert/inference",
            execution="compiled",
        ),
        Unsupported(
            reason="its CPU kernels have no bf16",
            link="https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization",
            device="cpu",
            precision="bf16",
        ),
    ),
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that must stand before LiteRT is imported, and before TensorFlow converts."""
    return {"OMP_NUM_THREADS": str(settings.num_threads), "TF_CPP_MIN_LOG_LEVEL": "2"}
