"""A library on fake_two that makes other steps than the workload's, and says so."""

import dataclasses

from fakes.frameworks import fake_library

CAPABILITIES = dataclasses.replace(fake_library.CAPABILITIES, name="fake_otherwise")
environment = fake_library.environment
