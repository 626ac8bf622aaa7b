"""OpenVINO: its capabilities and its environment. Imports no framework.

Its models are exported from PyTorch's implementations to ONNX, in a separate process.
"""

from __future__ import annotations

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="openvino",
    import_name="openvino",
    distributions=("openvino", "onnx"),
    executions=("graph",),
    precisions={"cpu": ("fp32", "bf16", "int8"), "metal": ()},
    asynchronous_devices=(),
    out_of_memory_patterns=(r"bad_alloc", r"[Cc]annot allocate memory", r"[Oo]ut of memory"),
    # openvino 2026.4 forks a process that reports its import to a server, unless this is set:
    # is_running_in_ci in openvino_telemetry/utils/opt_in_checker.py.
    import_variables=(("CI", "true"), ("ORT_DISABLE_TELEMETRY", "1")),
    unsupported=(
        Unsupported(
            reason="OpenVINO runs whole models only: it has no eager execution",
            link="https://docs.openvino.ai/2026/openvino-workflow/running-inference.html",
            execution="eager",
        ),
        Unsupported(
            reason="kernels are chosen when a model is loaded, not compiled: see execution=graph",
            link="https://docs.openvino.ai/2026/openvino-workflow/running-inference.html",
            execution="compiled",
        ),
    ),
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before openvino is imported, and before torch exports a model."""
    return {
        "OMP_NUM_THREADS": str(settings.num_threads),
        **dict(CAPABILITIES.import_variables),
    }
