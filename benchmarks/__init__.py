"""Dyno's harness: plans, measures, stores and compares; it imports no framework.

The layers, and which may import which, are listed in tests/architecture/test_layers.py.
"""

__version__ = "0.1.0"
