from functools import partial

from fakes import behaviour

Adapter = partial(behaviour.Adapter, "fake_stale")
