"""Settings of a launch, for tests of code that takes them."""

from benchmarks.contract.framework import Settings

SETTINGS = Settings(
    device="cpu",
    num_devices=1,
    execution="eager",
    precision="fp32",
    num_threads=1,
    memory_fraction=1.0,
    cache_folder="/cache",
    scratch_folder="/scratch",
)
