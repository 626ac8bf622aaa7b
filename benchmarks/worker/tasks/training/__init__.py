"""Training: a step is forward, backward and update."""
