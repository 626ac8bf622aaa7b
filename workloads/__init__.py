"""One folder for each model: the mathematics in NumPy, the frameworks side by side."""
