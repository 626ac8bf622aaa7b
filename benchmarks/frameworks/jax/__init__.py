"""JAX with Flax and Optax: its capabilities and its environment.

Imports no framework.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.contract.framework import Capabilities, Settings, Unsupported
from benchmarks.frameworks.malloc import HOST_MEMORY_KEPT, ONE_ARENA

CAPABILITIES = Capabilities(
    name="jax",
    import_name="jax",
    distributions=("jax", "jaxlib", "flax", "optax"),
    # Without jit each operation is a program of its own: a debugging mode, not used for training.
    executions=("compiled",),
    precisions={
        "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
        "cuda": ("fp32", "tf32", "bf16", "bf16_pure", "fp16", "fp64"),
        "tpu": ("fp32", "bf16", "bf16_pure"),
    },
    # Calls on the CPU return early too, but host and step share the same cores: queueing ahead
    # hides nothing.
    asynchronous_devices=("cuda", "tpu"),
    out_of_memory_patterns=(
        r"RESOURCE_EXHAUSTED",
        r"[Oo]ut of memory",
        r"CUDA_ERROR_OUT_OF_MEMORY",
    ),
    # Not on a TPU: it belongs to one process, and libtpu refuses the second.
    limits_memory_on=("cuda",),
    # cuDNN's, which takes operands of 16 bits only.
    fused_attention={"cuda": ("bf16", "bf16_pure")},
    holds_oracle=True,
    unsupported=(
        Unsupported(
            reason="without jit, JAX compiles each operation by itself: a debugging mode",
            link="https://docs.jax.dev/en/latest/jit-compilation.html",
            execution="eager",
        ),
        Unsupported(
            reason="JAX runs graphs through XLA only: see execution=compiled",
            link="https://docs.jax.dev/en/latest/jit-compilation.html",
            execution="graph",
        ),
        Unsupported(
            reason="JAX's Metal plugin is not maintained and fails with this version",
            link="https://github.com/jax-ml/jax/issues/34109",
            device="metal",
        ),
    ),
)

PLATFORMS = {"cpu": "cpu", "cuda": "cuda", "tpu": "tpu"}
"""JAX's name of each device, for JAX_PLATFORMS."""


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before jax is imported: platform, threads, memory, caches."""
    variables = {
        "JAX_PLATFORMS": PLATFORMS[settings.device],
        "JAX_ENABLE_X64": str(int(settings.precision == "fp64")),
        "JAX_COMPILATION_CACHE_DIR": str(Path(settings.cache_folder) / "xla"),
        # Keep every program, however quickly it compiled: a warm launch then compiles nothing.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    if settings.device == "cpu":
        # The size of the pool that Eigen and the fused loops share; XLA has no flag for it.
        # https://github.com/openxla/xla/blob/main/xla/pjrt/cpu/cpu_client.cc, DefaultThreadPoolSize
        variables["PJRT_NPROC"] = str(settings.num_threads)
        # A step's temporaries are one array, which any thread may allocate: hence one arena.
        # On two Zen 3 cores the decoder's step at small fell from 0.43 s to 0.36 s, and ResNet-50's
        # from 0.16 s to 0.145 s.
        variables.update(HOST_MEMORY_KEPT)
        variables.update(ONE_ARENA)
    if settings.device == "cuda":
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{settings.memory_fraction:.4f}"
        variables["CUDA_CACHE_PATH"] = str(Path(settings.cache_folder) / "cuda")
    return variables
