"""A causal decoder: its mathematics, and a folder for each framework that implements it."""
