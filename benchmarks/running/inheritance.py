"""Proofs for work whose oracle cannot be computed: the same way, at sizes where it can.

A proof that passed is kept below <cache>/proofs/, by everything that it depends on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract.case import Case
from benchmarks.equivalence.verdict import INHERITED, PASS, UNPROVEN, Verdict, verdict_from_json
from benchmarks.running.oracle import Oracles
from benchmarks.running.proving import Prover


@dataclass(frozen=True)
class Inheritance:
    """Proves cases by their proxies."""

    prover: Prover
    oracles: Oracles

    def verdict(self, case: Case, reason: str) -> Verdict:
        """INHERITED where the case's way passes at every proxy, else UNPROVEN.

        `reason` is why the case has no oracle of its own. Raises ProofStoppedError.
        """
        proxies = list(self._proxies(case))
        if not proxies:
            return Verdict(UNPROVEN, reason=f"{reason}; the workload names no sizes in its place")
        for proxy in proxies:
            found = self._proven(proxy)
            if found.status != PASS:
                return Verdict(UNPROVEN, reason=f"{reason}; {_named(proxy)}: {found.reason}")
        names = " and ".join(_named(proxy) for proxy in proxies)
        return Verdict(INHERITED, reason=f"proven at {names}, because {reason}")

    def _proxies(self, case: Case) -> Iterator[Case]:
        spec = self.prover.catalog.workloads[case.work.workload].spec
        for size in spec.proxies:
            if size != case.work.size:
                work = dataclasses.replace(
                    case.work, size=size, batch_size=spec.default_batch_size[size]
                )
                yield dataclasses.replace(case, work=work)

    def _proven(self, proxy: Case) -> Verdict:
        file = self._file(proxy)
        if file.is_file():
            return verdict_from_json(json.loads(file.read_text(encoding="utf-8")))
        known = self.oracles.find(proxy.work, follows=True)
        if isinstance(known, str):
            return Verdict(UNPROVEN, reason=known)
        verdict = self.prover.prove(proxy, oracle=known.folder).verdict
        if verdict.status == PASS:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(verdict.to_json(), allow_nan=False), encoding="utf-8")
        return verdict

    def _file(self, proxy: Case) -> Path:
        return self.prover.folders.cache / "proofs" / f"{self.prover.key(proxy)}.json"


def _named(case: Case) -> str:
    return f"{case.work.size} b{case.work.batch_size}"
