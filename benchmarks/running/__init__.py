"""The parent process: starts launches, grants turns, reaps processes, writes records."""
