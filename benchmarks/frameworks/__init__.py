"""One folder for each framework: its capabilities as data, its adapter, pinned requirements."""
