"""The machine: its identity, its state, disturbances during a measurement, and its limits."""
