"""The kinds of work, each a folder: how a program of it is loaded, timed and proven."""
