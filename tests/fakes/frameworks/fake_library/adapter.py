from fakes.frameworks.fake_two.adapter import Adapter

__all__ = ["Adapter"]
