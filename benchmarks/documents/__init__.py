"""What `--json` prints: frozen dataclasses, one module for each document.

The schemas in `schemas/` are generated from them; imports no command.
"""
