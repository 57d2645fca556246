"""Eight processes that log at once, each to a run of its own; what they write can be counted afterwards."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_project.tracking import Store

WRITERS = 8
STEPS = 60
KEYS = ("train/loss", "val/command/macro_f1", "val/command/recall/G2", "val/command/recall/G3", "train/seconds")
PARAMS = 30
TAGS = 5


def value(writer: int, key: int, step: int) -> float:
    """A number that tells who wrote it, under which key and when."""
    return writer * 1e6 + key * 1e3 + step


def content(writer: int) -> bytes:
    """64 KiB of bytes that tell who wrote them."""
    return bytes([writer, 255 - writer]) * 32_768


def write(store: Store, parent: str, writer: int, folder: Path, gate: multiprocessing.synchronize.Barrier) -> None:
    """What one process logs, when all of them are ready."""
    from imbalance_lab.run.terminal import quiet
    from mlflow_project.tracking import start_child

    quiet()
    folder.mkdir()
    (folder / "content.bin").write_bytes(content(writer))
    gate.wait(60)
    logger = start_child(store, parent, f"writer-{writer}", {"role": "trial", "writer": str(writer)})
    logger.params({f"p{i}": f"{writer}-{i}" for i in range(PARAMS)})
    for step in range(STEPS):
        logger.metrics({key: value(writer, k, step) for k, key in enumerate(KEYS)}, step=step)
        if step % 5 == 4:  # as small epochs would: the buffer alone would send everything at once
            logger.flush()
    for i in range(TAGS):
        logger.tags({f"t{i}": f"{writer}-{i}"})
    logger.folder(folder, "data")
    logger.describe(f"writer {writer}")
    logger.finish("FINISHED")


def write_at_once(store: Store, parent: str, folder: Path) -> list[int | None]:
    """Run the writers; their exit codes.

    One process imports everything once and the writers are its forks: the imports would take longer than the writing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow_project.tracking", "imbalance_lab.run.terminal"])
    gate = context.Barrier(WRITERS)
    writers = [
        context.Process(target=write, args=(store, parent, i, folder / str(i), gate), daemon=True)
        for i in range(WRITERS)
    ]
    for process in writers:
        process.start()
    for process in writers:
        process.join(120)
    return [process.exitcode for process in writers]


def start_tagging(store: Store, run_id: str) -> multiprocessing.process.BaseProcess:
    """A process that sets one tag of a run."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_tag, args=(store, run_id), daemon=True)
    process.start()
    return process


def _tag(store: Store, run_id: str) -> None:
    from mlflow_project.tracking import RunLogger

    RunLogger(store, run_id).tags({"waited": "yes"})
