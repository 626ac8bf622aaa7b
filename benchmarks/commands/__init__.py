"""One module for each command of dyno, imported on demand."""
