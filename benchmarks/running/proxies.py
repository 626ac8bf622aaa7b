"""Proofs for work whose oracle cannot be computed: the same way, at sizes with an oracle.

A proof that passed is kept below <cache>/proofs/, keyed by everything that it depends on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import INHERITED, PASS, UNPROVEN, ParityVerdict, verdict_from_json
from benchmarks.running.oracles import Oracles, sized
from benchmarks.running.prover import ProofStoppedError, Prover
from benchmarks.storage.files import replace_whole


@dataclass(frozen=True)
class Proxies:
    """Proves cases by their proxies."""

    prover: Prover
    oracles: Oracles

    def verdict(self, case: Case, reason: str) -> ParityVerdict:
        """INHERITED if the way passes at every proxy size, else the verdict of the first failure.

        `reason` says why the case has no oracle of its own. Raises ProofStoppedError.
        """
        proxies = list(self._proxies(case))
        if not proxies:
            return ParityVerdict(
                UNPROVEN, reason=f"{reason}; the workload names no proxy sizes for it"
            )
        for proxy in proxies:
            found = self._proven(proxy)
            if found.status != PASS:
                return dataclasses.replace(
                    found, reason=f"{reason}; at {sized(proxy.work)}: {found.reason}"
                )
        names = " and ".join(sized(proxy.work) for proxy in proxies)
        return ParityVerdict(INHERITED, reason=f"proven at {names}, because {reason}")

    def _proxies(self, case: Case) -> Iterator[Case]:
        spec = self.prover.catalog.workloads[case.work.workload].spec
        num_devices = case.place.num_devices
        for size in spec.proxies:
            per_device = -(-spec.default_batch_size[size] // num_devices)
            work = dataclasses.replace(
                case.work,
                size=size,
                batch_size=num_devices * per_device,
                options=tuple(
                    (
                        name,
                        value if name in spec.every_value_of else spec.default_option(name, size),
                    )
                    for name, value in case.work.options
                ),
            )
            if work != case.work:
                yield dataclasses.replace(case, work=work)

    def _proven(self, proxy: Case) -> ParityVerdict:
        file = self._file(proxy)
        kept = _kept(file)
        if kept is not None:
            return kept
        if self.prover.stopping.requested:
            raise ProofStoppedError
        known = self.oracles.find(proxy.work, follows=True)
        if isinstance(known, str):
            return ParityVerdict(UNPROVEN, reason=known)
        proof = self.prover.prove(proxy, oracle=known.folder)
        verdict = proof.verdict
        if proof.status != "ok":
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; log: {proof.log}")
        if verdict.status == PASS:
            replace_whole(file, json.dumps(verdict.to_json(), allow_nan=False))
        return verdict

    def _file(self, proxy: Case) -> Path:
        return self.prover.folders.cache / "proofs" / f"{self.prover.key(proxy)}.json"


def _kept(file: Path) -> ParityVerdict | None:
    """The verdict in this file; None if there is none that can be read."""
    try:
        return verdict_from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
