"""Proves a plan's cells, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import FAIL, NOT_COMPARABLE, SKIP, UNPROVEN, ParityVerdict
from benchmarks.contract.plan import Cell, Plan
from benchmarks.documents.parity import ProvenCell
from benchmarks.planning.catalog import Catalog
from benchmarks.presentation.wording import count
from benchmarks.running.guard import Guard
from benchmarks.running.listeners import Listener
from benchmarks.running.oracles import Known, Oracles
from benchmarks.running.preparation import Folders
from benchmarks.running.prover import Proof, ProofStoppedError, prover_of
from benchmarks.running.references import references_of
from benchmarks.running.stopping import StopNowError, Stopping


@dataclass
class Verification:
    """A plan with everything that its proofs need."""

    plan: Plan
    catalog: Catalog
    folders: Folders
    progress: Listener
    stopping: Stopping

    def prove_all(self) -> list[ProvenCell]:
        """A verdict for every cell of the plan; one that cannot run has its reason.

        The caller holds the machine's lock.
        """
        proven: list[ProvenCell] = []
        cells = self.plan.cells
        num_to_prove = sum(cell.action != "skip" for cell in cells)
        with Guard() as guard, self.stopping:
            self.progress.begin(num_to_prove, None, what=f"{count(num_to_prove, 'cell')} to prove")
            try:
                proven.extend(self._prove_each(guard))
            except StopNowError:
                self.progress.note("stopped now; finished proofs are shown")
            finally:
                self.progress.end()
        proven += [_not_reached(cell) for cell in cells[len(proven) :]]
        pairs = zip(proven, cells, strict=True)
        return [dataclasses.replace(one, rewrites=cell.rewrites) for one, cell in pairs]

    def _prove_each(self, guard: Guard) -> Iterator[ProvenCell]:
        prover = prover_of(
            self.plan,
            self.catalog,
            folders=self.folders,
            guard=guard,
            stopping=self.stopping,
            on_phase=self.progress.phase,
        )
        oracles = Oracles(prover, self.progress.note)
        references = references_of(oracles)
        stopped = False
        for cell in self.plan.cells:
            if cell.action == "skip":
                yield ProvenCell(cell.case, _skipped(cell))
                continue
            try:
                if stopped or self.stopping.requested:
                    raise ProofStoppedError
                reference = references.of(cell.case, follows=True)
                proven = ProvenCell(
                    cell.case, _settled(reference.verdict or ParityVerdict(UNPROVEN))
                )
                if reference.oracle is not None:
                    known = oracles.find(cell.case.work, follows=True)
                    proof = prover.prove(cell.case, oracle=reference.oracle)
                    proven = _proven(cell.case, proof, known)
                self.progress.note(f"{cell.case.case_id}: {proven.verdict.status}")
                yield proven
            except ProofStoppedError:
                stopped = True
                yield _not_reached(cell)
            except OSError as error:  # a full disk must not cost earlier verdicts
                yield ProvenCell(
                    cell.case, ParityVerdict(FAIL, reason=f"could not be proven: {error}")
                )


def _proven(case: Case, proof: Proof, known: Known | str) -> ProvenCell:
    holders = known.holders if isinstance(known, Known) else ()
    return ProvenCell(
        case, _settled(proof.verdict), proof.evidence, proof.settings, holders, proof.log
    )


def _not_reached(cell: Cell) -> ProvenCell:
    if cell.action == "skip":
        return ProvenCell(cell.case, _skipped(cell))
    return ProvenCell(cell.case, ParityVerdict(SKIP, reason="stopped before its proof"))


def _skipped(cell: Cell) -> ParityVerdict:
    return ParityVerdict(SKIP, reason=f"{str(cell.kind).replace('_', ' ')}: {cell.reason}")


def _settled(verdict: ParityVerdict) -> ParityVerdict:
    """The verdict; what cannot be proven here, or is not comparable, is shown as `skip`."""
    if verdict.status not in (UNPROVEN, NOT_COMPARABLE):
        return verdict
    return ParityVerdict(SKIP, reason=f"{verdict.status.replace('_', ' ')}: {verdict.reason}")
