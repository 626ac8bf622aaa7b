"""The C++ compiler of this machine, which some frameworks need for their compiled programs.

Standard library only.
"""

from __future__ import annotations

import os
import shutil

COMPILERS = ("c++", "g++", "clang++")
INSTALL_HINT = "install g++ or clang++"


def find_compiler() -> str | None:
    """The path of a C++ compiler: the one in CXX, else one of the usual names; None if none."""
    named = os.environ.get("CXX", "").split()[:1]
    return next((path for name in (*named, *COMPILERS) if (path := shutil.which(name))), None)
