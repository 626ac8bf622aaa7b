"""Pure functions on numbers: intervals, paired ratios, steady state (NumPy and SciPy only)."""
