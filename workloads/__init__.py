"""One folder for each model: its mathematics in NumPy, and its implementations by framework."""
