"""What a worker that is killed leaves among temporary files is found again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from imbalance_lab.run.temporaries import (
    forget_loading,
    forget_temporaries,
    loading_in,
    temporaries_in,
)


def test_temporary_files_lie_in_the_folder_and_are_removed_by_the_next_start(tmp_path: Path) -> None:
    folder, before = tmp_path / "temporaries", tempfile.gettempdir()
    with temporaries_in(folder):
        left = Path(tempfile.mkdtemp())  # of a worker that is killed now
        (left / "weights").write_bytes(b"0")
    assert left.parent == folder
    assert tempfile.gettempdir() == before
    forget_temporaries(folder)
    assert not folder.exists()
    forget_temporaries(folder)


def test_a_thread_does_not_choose_for_the_others(tmp_path: Path) -> None:
    before, seen = tempfile.gettempdir(), []

    def work() -> None:
        with temporaries_in(tmp_path / "temporaries"):
            seen.append(tempfile.gettempdir())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_data_that_a_killed_process_was_loading_are_removed_and_no_others(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
from imbalance_lab.run.temporaries import loading_in
folder = loading_in(pathlib.Path({str(tmp_path)!r}))
print(folder.name, flush=True)
os._exit(9)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == 9
    left = Path(killed.stdout.strip())
    elsewhere = tmp_path / "loading-0123abcd-1-x"
    elsewhere.mkdir()
    with loading_in(tmp_path) as own:
        assert left.is_dir()
        forget_loading(tmp_path)
        assert not left.exists()
        assert Path(own).is_dir()
        assert elsewhere.is_dir()
