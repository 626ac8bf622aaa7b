"""Run as `python -m tests.fakes DIR`: write the extension folder DIR/fakes."""

import sys
from pathlib import Path

from tests.fakes.extension import write

if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
