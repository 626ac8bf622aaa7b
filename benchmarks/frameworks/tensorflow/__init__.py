"""TensorFlow: its capabilities and its environment. Imports no framework."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contract.framework import Capabilities, Settings, Unsupported

CAPABILITIES = Capabilities(
    name="tensorflow",
    import_name="tensorflow",
    # Builds of the framework, one of which is installed.
    distributions=("tensorflow-cpu", "tensorflow", "tensorflow-tpu"),
    executions=("eager", "graph", "compiled"),
    precisions={
        "cpu": ("fp32", "bf16", "bf16_pure", "fp64"),
        "cuda": ("fp32", "tf32", "bf16", "bf16_pure", "fp16", "fp64"),
        "tpu": ("fp32", "bf16", "bf16_pure"),
    },
    asynchronous_devices=("cuda", "tpu"),
    out_of_memory_patterns=(
        r"ResourceExhaustedError",
        r"RESOURCE_EXHAUSTED",
        r"OOM when allocating",
        r"CUDA_ERROR_OUT_OF_MEMORY",
    ),
    limits_memory_on=("cuda",),
    holds_oracle=True,
    unsupported=(
        Unsupported(
            reason="TensorFlow's Metal plugin was last released for TensorFlow 2.18",
            link="https://github.com/tensorflow/tensorflow/pull/126384",
            device="metal",
        ),
    ),
)

XLA_CACHE = "xla"
"""Name of XLA's folder in the cache folder; TensorFlow writes nothing unless the folder exists."""


def environment(settings: Settings) -> dict[str, str]:
    """The variables to set before tensorflow is imported: kernels, threads, caches."""
    folder = Path(settings.cache_folder)
    variables = {
        "TF_CPP_MIN_LOG_LEVEL": "2",  # errors only
        # oneDNN uses TensorFlow's own thread pool; this variable is for NumPy and OpenMP.
        "OMP_NUM_THREADS": str(settings.num_threads),
        # oneDNN has the fast convolutions; whether it is on by default depends on the processor.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory='{folder / XLA_CACHE}'",
    }
    if settings.device == "cuda":
        variables.update(_cuda_variables(folder))
    return variables


def _cuda_variables(folder: Path) -> dict[str, str]:
    """NVIDIA's settings for ResNet-50: threads that only launch kernels, and fast BatchNorm.

    https://github.com/NVIDIA/DeepLearningExamples, TensorFlow/Classification/ConvNets/runtime.
    """
    return {
        "TF_GPU_THREAD_MODE": "gpu_private",
        "TF_GPU_THREAD_COUNT": "2",
        "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT": "1",
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }
