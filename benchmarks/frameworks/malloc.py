"""What keeps freed memory in glibc's malloc, for frameworks whose CPU allocators give it back.

By default it maps and unmaps a step's arrays anew, so that each step faults their pages in again
(mallopt(3)). TensorFlow gains nothing from either: on two Zen 3 cores the decoder's step at small
took 0.30 s with them and without (compiled), 0.35 s and 0.32 s (graph).
"""

from __future__ import annotations

HOST_MEMORY_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""Arrays come from the heap, which never shrinks and grows by 64 MiB."""

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""All threads share that heap. The others' heaps are mapped and unmapped whatever is said above."""
