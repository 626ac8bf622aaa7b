"""The contract between parent, worker, workloads and adapters.

Standard library and NumPy only, Python 3.9 or later: a worker runs in any interpreter that has its
framework, and imports this package there.
"""
