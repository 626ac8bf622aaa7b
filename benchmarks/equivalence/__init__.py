"""Pure functions on named arrays: norms, errors, agreement (NumPy only)."""
