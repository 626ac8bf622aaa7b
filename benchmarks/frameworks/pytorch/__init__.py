"""PyTorch: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contract.framework import Capabilities, Settings, Unsupported
from benchmarks.frameworks.malloc import HOST_MEMORY_KEPT

CAPABILITIES = Capabilities(
    name="pytorch",
    import_name="torch",
    distributions=("torch",),
    exporter_distributions=("onnx", "onnxscript"),
    executions=("eager", "compiled"),
    precisions={
        "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
        "cuda": ("fp32", "tf32", "bf16", "bf16_pure", "fp16", "fp64"),
        "metal": ("fp32", "bf16", "bf16_pure", "fp16"),
    },
    asynchronous_devices=("cuda", "metal"),
    out_of_memory_patterns=(
        r"OutOfMemoryError",
        r"(CUDA|HIP|MPS backend) out of memory",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        r"DefaultCPUAllocator: (can't|not enough)",
    ),
    needs_compiler=(("compiled", "cpu"),),
    limits_memory_on=("cuda", "metal"),
    # On Metal its attention keeps the matrix.
    fused_attention={
        "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
        "cuda": ("fp32", "tf32", "bf16", "bf16_pure"),
    },
    holds_oracle=True,
    unsupported=(
        Unsupported(
            reason="PyTorch makes graphs with torch.compile only: see execution=compiled",
            link="https://docs.pytorch.org/docs/stable/torch.compiler.html",
            execution="graph",
        ),
        Unsupported(
            reason="Metal has no float64",
            link="https://github.com/pytorch/pytorch/issues/122602",
            device="metal",
            precision="fp64",
        ),
    ),
)


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before torch is imported: threads and private caches."""
    threads = str(settings.num_threads)
    variables = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        **_cache_variables(Path(settings.cache_folder)),
    }
    if settings.device == "metal":
        # torch 2.13: Inductor forces channels_last, which makes Metal's convolution backward about
        # 30 times slower, https://github.com/pytorch/pytorch/issues/192551. Remove when the pinned
        # version has the fix, https://github.com/pytorch/pytorch/pull/193623.
        variables["TORCHINDUCTOR_LAYOUT_OPTIMIZATION"] = "0"
    if settings.device == "cpu":
        # PyTorch's CPU allocator caches nothing. ResNet-50 at 64 px, batch 8, two Zen 3 cores:
        # eager 31.8 to 37.0 images/s, compiled 27.6 to 35.4.
        variables.update(HOST_MEMORY_KEPT)
    if (settings.device, settings.execution) == ("cpu", "compiled"):
        # torch 2.13: Inductor keeps its precompiled C++ headers among the temporary files, outside
        # its cache on purpose (_inductor/codecache.py, _HEADER_DIR). In a private folder each
        # launch would compile them again, in 6 s. Remove when torch has a setting for their folder.
        variables["TMPDIR"] = str(Path(settings.cache_folder) / "temporary")
    return variables


def _cache_variables(folder: Path) -> dict[str, str]:
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "PYTORCH_KERNEL_CACHE_PATH": str(folder / "kernels"),
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }
