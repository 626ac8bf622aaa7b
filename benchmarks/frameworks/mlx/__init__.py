"""MLX: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="mlx",
    import_name="mlx",
    # The framework and its builds, one of which is installed.
    distributions=("mlx", "mlx-cpu", "mlx-metal", "mlx-cuda-12", "mlx-cuda-13"),
    executions=("eager", "compiled"),
    precisions={
        "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
        "cuda": ("fp32", "tf32", "bf16", "bf16_pure", "fp16"),
        "metal": ("fp32", "bf16", "bf16_pure", "fp16"),
    },
    # On the CPU, async_eval queues only a few operations: it returns when a step is almost done.
    asynchronous_devices=("cuda", "metal"),
    # On the CPU, MLX 0.32 does not check allocations: out of memory, it dies by a signal.
    out_of_memory_patterns=(
        r"\[malloc\] Unable to allocate",
        r"\[metal::malloc\] (Attempting to allocate|Unable to allocate|Resource limit)",
        r"kIOGPUCommandBufferCallbackErrorOutOfMemory",
        r"cuda\w*(\(.*\))? failed: out of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY",
    ),
    needs_compiler=(("compiled", "cpu"),),
    # At the limit MLX first frees cached memory and waits for running operations.
    limits_memory_on=("cuda", "metal"),
    unsupported=(
        Unsupported(
            reason="MLX runs recorded operations one by one or through mx.compile:"
            " it has no other graph mode",
            link="https://ml-explore.github.io/mlx/build/html/usage/compile.html",
            execution="graph",
        ),
        Unsupported(
            reason="MLX has float64 on the CPU only",
            link="https://ml-explore.github.io/mlx/build/html/python/data_types.html",
            device="metal",
            precision="fp64",
        ),
        Unsupported(
            reason="MLX has float64 on the CPU only",
            link="https://ml-explore.github.io/mlx/build/html/python/data_types.html",
            device="cuda",
            precision="fp64",
        ),
        Unsupported(
            reason="only chips from the M5 on multiply in TF32, and MLX does not report it",
            link="https://ml-explore.github.io/mlx/build/html/usage/precision.html",
            device="metal",
            precision="tf32",
        ),
    ),
)

TEMPORARY = "temporary"
"""Name of the folder in the cache folder for temporary files, such as mx.compile's kernels."""


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before mlx is imported: threads, precision, caches."""
    threads = str(settings.num_threads)
    variables = {
        # MLX computes in one thread; these are for its BLAS: OpenBLAS, or Apple's Accelerate.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "VECLIB_MAXIMUM_THREADS": threads,
        # On by default, https://ml-explore.github.io/mlx/build/html/usage/precision.html
        "MLX_ENABLE_TF32": str(int(settings.precision == "tf32")),
    }
    if settings.device == "cuda":
        variables["MLX_PTX_CACHE_DIR"] = str(Path(settings.cache_folder) / "ptx")
        variables["CUDA_CACHE_PATH"] = str(Path(settings.cache_folder) / "cuda")
    if (settings.device, settings.execution) == ("cpu", "compiled"):
        # MLX 0.32 keeps the kernels that g++ builds among the temporary files (CompilerCache in
        # mlx/backend/cpu/compiled.cpp). In a private folder each launch would build them again.
        # Remove when MLX has a setting for their folder.
        variables["TMPDIR"] = str(Path(settings.cache_folder) / TEMPORARY)
    return variables
