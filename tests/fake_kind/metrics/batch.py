"""A metric of the third kind of work, from a number that its task leaves in the evidence."""

from benchmarks.analysis.metrics import Metric, Number, largest

METRICS = (
    Metric(
        "batch_bytes",
        meaning="the size of a batch",
        unit="bytes",
        source=lambda record: record.evidence.numbers.get("batch_bytes"),
        numbers=(Number("batch_bytes", largest),),
        heading="batch bytes",
        is_integer=True,
    ),
)
