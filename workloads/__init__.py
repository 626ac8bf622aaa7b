"""One folder for each model: the mathematics in spec.py, the frameworks side by side."""
