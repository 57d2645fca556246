"""Tasks and a driver whose workers die, for the tests of the engines; imported by the workers, so it imports little."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from imbalance_lab.run.search import Tuning
    from imbalance_lab.spec import ExperimentSpec

FIRST, SECOND = "cross-entropy-s0", "curriculum-s0"
"""The trials of tests/experiments/tiny-mill.yaml."""


def square_or_die(task: tuple[int, str]) -> int:
    """Number 2 kills its worker once, number 4 always, number 5 raises."""
    number, folder = task
    seen = Path(folder, f"seen-{number}")
    first = not seen.exists()
    seen.touch()
    if (number == 2 and first) or number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise ValueError("five")
    time.sleep(0.05)
    return number**2


def square_again(task: tuple[int, str]) -> tuple[str, int]:
    return "again", square_or_die(task)


def slow(task: tuple[float, str]) -> int:
    seconds, folder = task
    Path(folder, f"pid-{os.getpid()}").touch()
    time.sleep(seconds)
    return os.getpid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def plain_job(job: Any) -> Any:
    """``run_job`` without pictures, which cost most of the time and are not looked at."""
    from mlflow_project.trials import run_job

    without_pictures()
    return run_job(job)


def job_again(job: Any) -> Any:
    from mlflow_project.trials import rerun_job

    without_pictures()
    return rerun_job(job)


def second_dies(job: Any) -> Any:
    """The worker of the second trial is killed when it has written its first checkpoint."""
    _watch(job, SECOND)
    return plain_job(job)


def both_die(job: Any) -> Any:
    """The workers of both trials are killed when they have written their first checkpoint."""
    _watch(job, FIRST)
    _watch(job, SECOND)
    return plain_job(job)


def second_dies_again(job: Any) -> Any:
    _watch(job, SECOND)
    return job_again(job)


def without_pictures() -> None:
    """Every picture of this process is one white pixel, there are no galleries, intervals are coarse."""
    import imbalance_lab.plots.style as style
    import imbalance_lab.run.trial as trial_module

    style.png_bytes, trial_module.write_analysis = pixel, cheap_analysis


def cheap_analysis(test: Any, folder: Path, **options: Any) -> str:
    """The analysis of a run without galleries and with coarse intervals."""
    from imbalance_lab.run.trial_files import write_analysis

    return write_analysis(
        test, folder, **{**options, "behind": replace(options["behind"], dataset=None), "resamples": 20}
    )


def pixel(figure: Any) -> bytes:
    """One white pixel instead of a figure."""
    from io import BytesIO

    from matplotlib.pyplot import close
    from PIL import Image

    close(figure)
    stream = BytesIO()
    Image.new("RGB", (1, 1), "white").save(stream, "PNG")
    return stream.getvalue()


def one_dies(job: Any) -> Any:
    """The worker of a job of several trials is killed when the second trial has written its first checkpoint."""
    if len(job.trials) > 1:
        _watch(job, job.trials[1].name)
    return plain_job(job)


def one_dies_again(job: Any) -> Any:
    """A second time too, at once; the same trial kills no worker that it has for itself."""
    if len(job.trials) > 1:
        _watch(job, job.trials[1].name)
    return job_again(job)


def _watch(job: Any, name: str) -> None:
    for trial in job.trials:
        if trial.name == name:
            checkpoint = trial.trial.workspace.checkpoint(trial.id)
            threading.Thread(target=_kill_when, args=(checkpoint,), daemon=True).start()


def _kill_when(file: Path) -> None:
    while not file.exists():
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)


def main(dying: str, argv: list[str]) -> int:
    """The command line of the product, with workers that die: ``none``, ``second`` or ``both``."""
    import engine_cases  # by its name, so that workers import it too

    import mlflow_project.schedule as schedule
    from mlflow_project.__main__ import main as product

    without_pictures()
    schedule.run_job = {
        "none": engine_cases.plain_job, "second": engine_cases.second_dies, "both": engine_cases.both_die
    }[dying]  # fmt: skip
    schedule.rerun_job = engine_cases.second_dies_again if dying == "both" else engine_cases.job_again
    return product(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))


def searched(
    spec: ExperimentSpec,
    strategy: str,
    evaluate: Callable[[ExperimentSpec], float],
    trials: int,
    batch: int = 1,
    backwards: bool = False,
) -> Tuning:
    """A whole search, each batch judged here in the order of asking or the other way round."""
    from imbalance_lab.run.search import judge, search

    dialogue = search(spec, strategy, trials=trials, batch=batch)
    asked = next(dialogue)
    while True:
        assert len(asked) <= batch
        results = [judge(spec, strategy, v, evaluate) for v in (reversed(asked) if backwards else asked)]
        try:
            asked = dialogue.send(tuple(reversed(results)) if backwards else tuple(results))
        except StopIteration as end:
            return end.value
