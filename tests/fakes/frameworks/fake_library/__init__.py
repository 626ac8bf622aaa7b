"""A library that computes with fake_two, and takes a known time beside it in each step."""

from fakes.frameworks import fake_two

from benchmarks.contract.framework import capabilities_on

CAPABILITIES = capabilities_on(
    fake_two.CAPABILITIES,
    name="fake_library",
    import_name="numpy",
    distributions=("numpy",),
)
environment = fake_two.environment
