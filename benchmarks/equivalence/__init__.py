"""Pure functions that compare named arrays: norms, errors, checks, verdicts (NumPy only)."""
