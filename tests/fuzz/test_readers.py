"""Whatever a file holds, its reader takes it for what it says or refuses it in one sentence.

``make test`` tries the same :data:`FEW` cases of each reader every time, ``make fuzz`` as many as ``FUZZ_CASES`` says.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
import warnings
import zipfile
from pathlib import Path

import pytest
from fuzz.bounds import bounded
from fuzz.readers import READERS, mutated
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from imbalance_lab.errors import InputError
from imbalance_lab.training.checkpoint import DamagedCheckpointError, load_checkpoint

FEW = 300
CASES = int(os.environ.get("FUZZ_CASES") or FEW)
SEED = int(os.environ.get("FUZZ_SEED") or 0)
KEPT = Path(__file__).resolve().parents[2] / "fuzz-cases"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds on time and memory need /proc")


def told(name: str, folder: Path) -> None:
    """Read a case; whatever is not clean is kept, and the error names the command that repeats it."""
    reader = READERS[name]
    try:
        with bounded():
            try:
                found = reader.read(folder)
            except InputError:
                return
        reader.agrees(folder, found)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = KEPT / re.sub(r"\W+", "-", f"{name}-{type(error).__name__}-{Path(at.filename).stem}-{at.lineno}")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        error.add_note(f"to repeat: cd tests && python -m fuzz.repeat {name} {place}")
        raise


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_a_file_for_what_it_says_or_refuses_it(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    made, case = tmp_path / "made", tmp_path / "case"
    made.mkdir()
    reader.make(made)
    shutil.copytree(made, case)
    reader.agrees(case, reader.read(case))
    whole = {file: (made / file).read_bytes() for file in reader.files}

    @settings(
        max_examples=CASES,
        derandomize="FUZZ_SEED" not in os.environ,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def every(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(sorted(whole)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of odd numbers, here and where cases are made
            try:
                (case / file).write_bytes(mutated(data.draw, whole[file], reader.files[file]))
                told(name, case)
            finally:
                (case / file).write_bytes(whole[file])

    seed(SEED)(every)() if "FUZZ_SEED" in os.environ else every()


def test_no_byte_of_a_checkpoint_can_be_changed_unseen(tmp_path: Path) -> None:
    READERS["checkpoint"].make(tmp_path)
    path = tmp_path / "a.pt"
    whole = path.read_bytes()
    assert load_checkpoint(path, "f") is not None
    taken = []
    for i in range(len(whole)):
        flipped = whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :]
        for content in [flipped, whole[:i], whole + whole[: i + 1]] if i % 20 == 0 else [flipped]:
            path.write_bytes(content)
            try:
                taken.append((i, len(content), load_checkpoint(path, "f")))
            except DamagedCheckpointError:
                continue
    assert taken == []


def test_no_byte_of_a_tensor_can_be_changed_unseen(tmp_path: Path) -> None:
    READERS["pt"].make(tmp_path)
    path = tmp_path / "a.pt"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        place = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
        inside = whole.find(archive.read(place.filename), place.header_offset)
    for at in range(inside, inside + place.file_size, 25):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        with pytest.raises(InputError, match="checksum"):
            READERS["pt"].read(tmp_path)
