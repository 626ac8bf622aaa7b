"""The worker process: runs one launch in any interpreter that has its framework and NumPy."""
