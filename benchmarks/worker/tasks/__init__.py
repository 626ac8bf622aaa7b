"""The kinds of work, one folder each: how its programs are loaded, timed and proven."""
