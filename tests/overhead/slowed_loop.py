"""Steps of a slowed program with and without its extra products, in turns, in one process.

Run as `python -m tests.overhead.slowed_loop LAUNCH_JSON`; each line `NUM_PRODUCTS
NUM_PAIRS` on stdin is answered by a JSON list of that many [slowed_ns, plain_ns]. Each of a pair
goes first in turn.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.contract.message import LaunchRequest, decode
from benchmarks.contract.workload import problem_of
from benchmarks.worker import canonical

NUM_WARMUP_STEPS = 20


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

    def step_ns(num_products: int) -> int:
        program.num_products = num_products
        begin = time.perf_counter_ns()
        framework.wait(program.step())
        return time.perf_counter_ns() - begin

    for _ in range(NUM_WARMUP_STEPS):
        step_ns(1)
    print(json.dumps("ready"), flush=True)
    for request in sys.stdin:
        num_products, num_pairs = map(int, request.split())
        pairs = []
        for index in range(num_pairs):
            if index % 2:
                plain_ns, slowed_ns = step_ns(0), step_ns(num_products)
            else:
                slowed_ns, plain_ns = step_ns(num_products), step_ns(0)
            pairs.append([slowed_ns, plain_ns])
        print(json.dumps(pairs), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
