from fakes.answering import build

IMPLEMENTS = {"fake_infer", "fake_decode"}

__all__ = ["IMPLEMENTS", "build"]
