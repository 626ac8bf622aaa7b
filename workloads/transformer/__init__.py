"""A causal decoder: the mathematics in spec.py, one implementation file for each framework."""
