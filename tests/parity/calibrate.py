"""The figures from which a workload's tolerances are derived: the worst error of each check.

Run as `python -m tests.parity.calibrate DOCUMENT...` on what `dyno parity --json` printed, over
several seeds and every implementation that passes in fp64. A tolerance is four times the worst.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path

FACTOR = 4
SHOWN = (
    *("loss", "other_batch", "first_layer", "statistics", "decay", "decoupled_decay"),
    *("gradient", "cosine", "gradient_norm", "gradient_tensor", "stable_gradient"),
    *("second_moment", "update", "update_norm", "losses", "momentum", "second_momentum"),
    *("own_update", "own_update_tensor", "own_second_moment"),
    *("later_update", "later_update_tensor", "later_second_moment"),
    *("continued_loss", "continued_gradient", "continued_statistics"),
    *("reproduced", "logits", "logits_worst", "recomputed", "continued"),
)


def worst_errors(paths: list[str]) -> dict[tuple[str, str], list[tuple[float, str]]]:
    """For each (precision, check) the errors, largest first, each with its cell.

    Only of what passes in fp64 in one of the documents, or in fp32 where a framework has no other:
    no tolerance is widened by what is wrong.
    """
    cells = [cell for path in paths for cell in json.loads(Path(path).read_text())["cells"]]
    ran = [cell for cell in cells if cell["status"] != "skip"]
    exact = {_way(cell) for cell in ran if cell["precision"] == "fp64"}
    right = {
        _way(cell)
        for cell in ran
        if cell["precision"] == ("fp64" if _way(cell) in exact else "fp32")
        and cell["status"] == "pass"
    }
    found = defaultdict(list)
    for cell in ran:
        for check in cell["checks"] if _way(cell) in right else ():
            error = math.inf if check["error"] is None else check["error"]
            found[cell["precision"], check["name"]].append((error, cell["case_id"]))
    return {key: sorted(errors, reverse=True) for key, errors in found.items()}


def _way(cell: dict[str, str]) -> tuple[str, ...]:
    return cell["workload"], cell["framework"], cell["execution"]


def main(paths: list[str]) -> None:
    """Print a line for each precision and check."""
    worst = worst_errors(paths)
    for precision, name in sorted(
        worst, key=lambda key: (key[0], SHOWN.index(key[1]) if key[1] in SHOWN else len(SHOWN))
    ):
        if name not in SHOWN:
            continue
        errors = worst[precision, name]
        largest, case_id = errors[0]
        median = errors[len(errors) // 2][0]
        print(
            f"{precision} {name:16} worst {largest:.1e} x{FACTOR} = {FACTOR * largest:.1e}"
            f"  median {median:.1e} of {len(errors)}  ({case_id})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
