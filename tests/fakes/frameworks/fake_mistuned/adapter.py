from functools import partial

from fakes import clockwork

Adapter = partial(clockwork.Adapter, "fake_mistuned")
