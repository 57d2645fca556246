"""The lock of a grid's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from imbalance_lab.errors import InputError
from imbalance_lab.processes import began
from imbalance_lab.run.lock import STALE_S, Owner, owning, read_owner


def put(root: Path, owner: Owner, silent_s: float = 0.0) -> None:
    file = root / "owner.json"
    file.write_text(json.dumps(asdict(owner)), encoding="utf-8")
    then = time.time() - silent_s
    os.utime(file, (then, then))


def test_one_owner_at_a_time_and_none_is_left(tmp_path: Path) -> None:
    with owning(tmp_path / "grid", beat_s=0.05) as owner:
        assert read_owner(tmp_path / "grid") == owner
        with pytest.raises(InputError, match=f"process {os.getpid()} on .*--force"), owning(tmp_path / "grid"):
            pass
        assert read_owner(tmp_path / "grid") == owner  # who was refused leaves it as it is
        before = (tmp_path / "grid" / "owner.json").stat().st_mtime_ns
        time.sleep(0.3)
        assert (tmp_path / "grid" / "owner.json").stat().st_mtime_ns > before
    assert read_owner(tmp_path / "grid") is None


@pytest.mark.parametrize("how", ["gone", "its number is another's", "silent elsewhere"])
def test_the_lock_of_a_dead_owner_is_taken_over_with_a_line(tmp_path: Path, how: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = {
        "gone": replace(Owner.this(), pid=ended.pid, began="12"),
        "its number is another's": replace(Owner.this(), began="12"),
        "silent elsewhere": replace(Owner.this(), place="other-host boot pid:[1]"),
    }[how]
    put(tmp_path, dead, silent_s=STALE_S + 60 if how == "silent elsewhere" else 0)
    said: list[str] = []
    with owning(tmp_path, say=said.append) as owner:
        assert read_owner(tmp_path) == owner
    assert len(said) == 1
    assert f"taken over from {dead}, which is dead" in said[0]


def test_an_owner_of_another_machine_lives_while_it_is_heard_of(tmp_path: Path) -> None:
    put(tmp_path, replace(Owner.this(), place="other-host boot pid:[1]"), silent_s=STALE_S / 2)
    with pytest.raises(InputError, match="on other-host works there"), owning(tmp_path):
        pass


def test_a_file_that_no_owner_wrote_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text("{", encoding="utf-8")
    with owning(tmp_path) as owner:
        assert read_owner(tmp_path) == owner


def test_processes_are_told_apart() -> None:
    assert began(os.getpid()) == began(os.getpid()) != ""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert began(child.pid) not in ("", began(os.getpid()))
    child.kill()
    child.wait()
    assert began(child.pid) == ""
