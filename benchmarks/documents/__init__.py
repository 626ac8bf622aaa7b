"""The documents that `--json` prints: frozen dataclasses, one module for each document.

The schemas in `schemas/` are generated from them. No module here imports a command.
"""
