"""The parent: starts launches, grants turns, reaps processes, writes records."""
