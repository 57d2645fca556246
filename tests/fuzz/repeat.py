"""``python -m fuzz.repeat READER FOLDER`` (from ``tests/``): what a kept case does, with its traceback."""

from __future__ import annotations

import sys
from pathlib import Path

from fuzz.bounds import bounded
from fuzz.readers import READERS

from imbalance_lab.errors import InputError

if __name__ == "__main__":
    reader, folder = READERS[sys.argv[1]], Path(sys.argv[2])
    try:
        with bounded():
            found = reader.read(folder)
    except InputError as error:
        print(f"refused: {error}")
    else:
        reader.agrees(folder, found)
        print("accepted, and the values agree")
