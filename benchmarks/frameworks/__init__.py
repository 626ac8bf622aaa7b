"""One folder for each framework: capabilities as data, an adapter, pinned requirements."""
