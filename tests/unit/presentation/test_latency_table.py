"""A table of latencies: percentiles with intervals, bounds marked as such, reasons below."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.analysis.summary import summarise
from benchmarks.contract.case import Work
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Block
from benchmarks.presentation.terminal import render_summary
from tests.unit.analysis.records import case, plan, record
from tests.unit.presentation.test_terminal import row
from workloads.resnet50.inference_spec import SPECS


def requests_of(framework, execution="graph"):
    training = case(framework, execution)
    return dataclasses.replace(training, work=Work("resnet50_infer", 1, "full", 1))


BASE, FAST = requests_of("pytorch", "eager"), requests_of("keras_tensorflow")
MEDIANS_S = {BASE: 0.04, FAST: 0.02}


def launches(num_rounds, *, num=3):
    """Launches of 25 requests a round, with a launch effect."""
    found = []
    for cohort in range(num):
        for one, median_s in MEDIANS_S.items():
            generator = np.random.default_rng(cohort)
            blocks = []
            for index in range(num_rounds):
                noise = 0.05 * generator.standard_normal(25) + 0.004 * (cohort - 1)
                request_ns = tuple(int(1e9 * median_s * np.exp(x)) for x in noise)
                blocks.append(Block(index, 0, 25, sum(request_ns), 1000, 0.01, (), request_ns))
            phases_s = {"export": 5.0, "load": 1.0, "turn": 5.0}
            whole = record(one, cohort, unit="request", items_per_step=1, phases_s=phases_s)
            evidence = dataclasses.replace(whole.evidence, first_step_s=2.0)
            found.append(dataclasses.replace(whole, blocks=tuple(blocks), evidence=evidence))
    return found


def rendered(records, *, percentiles, width=110, encoding="utf-8", all_notes=False):
    protocol = MeasuringProtocol(percentiles=percentiles)
    summary = summarise(plan([BASE, FAST], protocol=protocol), records, SPECS)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width)
    render_summary(summary, console, all_notes=all_notes)
    stream.seek(0)
    return stream.read()


def test_percentiles_have_intervals_and_a_tail_is_a_bound():
    text = rendered(launches(10), percentiles=[50, 90, 99], width=140)
    assert "p50 ms" in text
    assert "p99 ms" in text
    line = row(text, "keras_tensorflow graph")
    assert line.count("[") == 3  # p50, p90 and the ratio
    assert "≤ 2" in line
    assert "▲ faster" in line
    assert "8.0 s" in line  # export, loading and the first request
    text = rendered(launches(10), percentiles=[50, 90, 99], width=140, all_notes=True)
    assert "p99 from 750 samples: resnet50_infer full b1 cpu: pytorch eager fp32" in text


def test_where_requests_are_too_few_the_reason_is_below():
    text = " ".join(rendered(launches(4), percentiles=[50, 90, 99], all_notes=True).split())
    assert "no p99, 300 of the 662 samples that it needs: resnet50_infer full b1 cpu:" in text
    assert "≤" not in row(rendered(launches(4), percentiles=[50, 99]), "pytorch eager")


def test_the_rate_of_the_same_loop_is_told():
    text = " ".join(rendered(launches(4), percentiles=[50], all_notes=True).split())
    assert (
        "requests/s in the same loop: resnet50_infer full b1 cpu: pytorch eager fp32 26.5" in text
    )
    assert "one request in flight" in text


@pytest.mark.parametrize("width", [80, 100, 110, 140])
def test_lines_fit_and_are_whole(width):
    text = rendered(launches(10), percentiles=[50, 90, 95, 99], width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for whole in ("keras_tensorflow", "p95", "p99", *(["answer"] if width >= 110 else [])):
        assert whole in text.split()


def test_a_bound_reads_without_unicode():
    assert "<= 2" in rendered(launches(10), percentiles=[99], encoding="ascii")
