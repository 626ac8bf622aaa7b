"""Variables that keep freed memory in glibc's malloc, for frameworks without a CPU allocator cache.

By default malloc maps and unmaps a step's arrays each time, so that each step page-faults again
(mallopt(3)). TensorFlow does not profit: on two Zen 3 cores the decoder's step at small took 0.30 s
with and without these (compiled), and 0.35 s with and 0.32 s without (graph).
"""

from __future__ import annotations

HOST_MEMORY_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""Arrays come from the heap, which never shrinks and grows by 64 MiB."""

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""All threads share one heap: the variables above have no effect on further threads' heaps."""
