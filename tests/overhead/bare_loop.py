"""A hand-written loop over a Program, without the harness: the yardstick of its overhead.

Run as `python bare_loop.py LAUNCH_JSON`; each line N on stdin is answered by the nanoseconds that
N steps took, `cpu N` by those of the processor, `block N` by those that the harness's block of N
steps took in this same process, and an empty line by the resident peak in bytes. One step goes
untimed right before the N, as within a long loop: after a pause the rest of an asynchronous step
would already be over.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.contract.message import LaunchRequest, decode
from benchmarks.contract.workload import problem_of
from benchmarks.worker import canonical, memory
from benchmarks.worker.timing import time_block


def main(line: str) -> None:
    launch = decode(line.encode())
    assert isinstance(launch, LaunchRequest)
    framework = importlib.import_module(f"{launch.framework_module}.adapter").Adapter()
    framework.configure(launch.settings)
    spec = importlib.import_module(launch.spec_module).SPECS[launch.case.work.workload]
    implementation = importlib.import_module(launch.implementation_module)
    program = implementation.build(problem_of(launch.case, spec), framework)
    folder = Path(launch.data_folder)
    program.load(canonical.read_weights(folder))
    program.feed(canonical.read_batches(folder))
    for _ in range(20):
        outputs = program.step()
    framework.wait(outputs)
    memory.reset_host_peak()
    print(json.dumps("ready"), flush=True)
    for request in sys.stdin:
        if not request.strip():
            peak = memory.peak(framework, device=launch.settings.device, was_reset=True)
            print(peak.num_bytes, flush=True)
            continue
        kind, _, num_steps = request.rpartition(" ")
        if kind == "block":
            block = time_block(program, framework, num_steps=int(num_steps), previous=outputs)
            outputs = block.outputs
            print(block.duration_ns, flush=True)
            continue
        clock = time.process_time_ns if kind == "cpu" else time.perf_counter_ns
        outputs = program.step()
        framework.wait(outputs)
        begin = clock()
        for _ in range(int(num_steps)):
            outputs = program.step()
        framework.wait(outputs)
        print(clock() - begin, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
