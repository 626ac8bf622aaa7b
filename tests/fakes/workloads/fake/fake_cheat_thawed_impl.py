from fakes.behaviour import build

IMPLEMENTS = {"fake_train"}

__all__ = ["IMPLEMENTS", "build"]
