"""Write the extension folder DIR/fakes, and print its path."""

import argparse
from pathlib import Path

from tests.fakes.extension import write

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that exists")
    try:
        print(write(parser.parse_args().folder))
    except FileExistsError as error:
        parser.error(f"{error.filename} exists: remove it, or give another folder")
