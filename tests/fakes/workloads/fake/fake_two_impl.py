from fakes.clockwork import build

IMPLEMENTS = {"fake_train"}

__all__ = ["IMPLEMENTS", "build"]
