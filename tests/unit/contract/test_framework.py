"""What a library on a framework inherits."""

import dataclasses

from benchmarks.contract.framework import Unsupported, capabilities_on
from benchmarks.frameworks.jax import CAPABILITIES as JAX


def library(*unsupported):
    return capabilities_on(
        JAX,
        name="equinox",
        import_name="equinox",
        distributions=("equinox", *JAX.distributions),
        unsupported=unsupported,
    )


def test_a_library_can_do_what_its_base_can_but_for_holding_the_oracle():
    own = library()
    assert (own.name, own.base, own.holds_oracle) == ("equinox", "jax", False)
    assert dataclasses.replace(
        own,
        name=JAX.name,
        import_name=JAX.import_name,
        distributions=JAX.distributions,
        base=None,
        holds_oracle=True,
    ) == dataclasses.replace(JAX, precisions=own.precisions)
    assert own.precisions == JAX.precisions


def test_what_it_cannot_do_adds_to_what_its_base_cannot():
    gap = Unsupported("no float64", "a link", precision="fp64")
    here = Unsupported("no tf32", "a link", precision="tf32", device="cuda")
    own = library(gap, here)
    assert own.unsupported == (*JAX.unsupported, gap, here)
    assert "fp64" not in own.precisions["cpu"]
    assert "tf32" in own.precisions["cuda"]  # refused with its reason where it is documented
