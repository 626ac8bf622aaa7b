"""One proof: checks a case's work against the oracle, or computes the oracle.

Nothing is timed. Standard library, NumPy, the contract and worker.
"""

from __future__ import annotations

import dataclasses

from benchmarks.contract.message import ProofRequest, Proved
from benchmarks.worker.context import LaunchContext
from benchmarks.worker.tasks.protocol import create


class ProofSession:
    """One proof, from import to its verdict."""

    def __init__(self, context: LaunchContext) -> None:
        assert isinstance(context.launch, ProofRequest)
        self.context = context

    def run(self) -> None:
        """Go through every phase and report; any exception ends the proof."""
        context = self.context
        context.import_framework()
        context.enter("self_test")
        checks = context.check_precision()
        context.evidence.parity = create(context).prove_all(checks)
        context.channel.send(
            Proved(
                evidence=context.evidence,
                settings={
                    "asked": dataclasses.asdict(context.launch.settings),
                    "effective": context.framework.describe(),
                },
            )
        )
