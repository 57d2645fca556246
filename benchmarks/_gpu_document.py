"""docs/gpu.md, from benchmarks/results/gpu.json or from nothing: then it says that nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from _common import ROOT
from _markdown import number, percent, table
from document import done, machines, verdict

RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
DOCUMENT = ROOT / "docs" / "gpu.md"


@dataclass(frozen=True)
class GpuPart:
    """A part of `make gpu`: what it does, after how many seconds it is ended, whether it takes --device and --data."""

    title: str
    about: str
    limit_s: float
    on_device: bool = True


PARTS = {
    "cuda_tests": GpuPart("Tests", "the tests that need a CUDA device (`pytest -m cuda`)", 240, on_device=False),
    "agreement": GpuPart(
        "Agreement with the CPU",
        "the trainer against the CPU in float32 with nothing drawn: losses and confusion matrices of every strategy of "
        "`experiments/gcode-motion.yaml`",
        120,
    ),
    "together": GpuPart(
        "Steps",
        "milliseconds of a step without a graph, as a graph, of 4, 12 and 36 trials at once, and of a plain PyTorch "
        "loop (that of `benchmarks/training.py`), each against one trial",
        480,
    ),
    "motion": GpuPart(
        "The gcode-motion grid",
        "the grid of `experiments/gcode-motion.yaml` through `mlflow run`, on the recordings that `--data` names or on "
        "a simulated mill of their size, and where its time goes",
        360,
    ),
}

GOALS = {
    "36 trials at once against one": ("together", "36 trials at once, against one", "below 3 times"),
    "a step without a graph against one with": ("together", "a step without a graph, against one with", ">= 1.5 times"),
    "the plain loop against one trial": ("together", "the plain loop, against one trial", ">= 2 times"),
    "losses agree": ("agreement", "largest relative difference of a loss to the CPU", "at most 1 %"),
    "confusions agree": ("agreement", "validation positions in another cell than on the CPU", "at most 1 %"),
}

NEVER = "**Never run on a GPU.** No figure in here is of one; `make gpu` on a machine with a GPU replaces this line."

HOW = """## How trials share a GPU

- One process for each visible GPU. `device: cuda` (and `auto`, where there is a GPU) takes all of them and divides the
  trials of a grid over them, `cuda:N` takes one; `--jobs N` is the most trials that all of them train at once.
- Within a process every trial has its own network, data, random state, CUDA stream, graph, early stopping, checkpoint
  and MLflow run; one thread gives each a step in turn. The numbers are those of trials one by one (on a CPU bit for
  bit, which a test holds).
- The first trial trains one epoch alone. From the memory that it took follows how many are trained at once. Where
  memory runs out all the same, the number is halved; the trial that hit it, and those that were begun last, go on from
  their last checkpoint when there is room. The end of the grid's output and the description of its parent run say so.
- A trial that is trained is scored, analysed, interpreted and drawn by CPU processes, one for each core that no GPU's
  process needs, while the GPU trains on. They find the weights in its checkpoint (tensors and plain data only) and work
  in float32. Classical classifiers never come near the GPU.
- A process that dies is started again and goes on from the checkpoints. If it dies twice, its trials are trained one
  by one, so that the one that kills it takes no other with it.
- On a cluster (`--engine dask`, `--engine ray`) a worker trains one trial at a time, on the GPU that it sees.

## Checked without a GPU

`make test` trains on a CUDA device that is not there: tensors with shapes and devices but no numbers go through
PyTorch's own dispatcher (`tests/pretended_cuda`). It fails when a step mixes devices, waits for the host, copies from
it, draws from a generator of another device, cannot be captured as a CUDA graph, or has more kernels than `budgets.py`
there allows. Each kind of fault is planted and must be found. It sees no numbers, memory or time. It needs a C++
compiler on Linux; elsewhere it is skipped and says so."""


def write(results: Mapping[str, Any] | None) -> str:
    """The whole document; ``results`` None: nothing was ever measured."""
    blocks = ["# On a GPU", _head(results)]
    blocks.append("## What `make gpu` does")
    rows = [{"part": f"`{name}`", "about": p.about, "limit": f"{p.limit_s:g} s"} for name, p in PARTS.items()]
    total = sum(p.limit_s for p in PARTS.values())
    blocks.append(table(rows, {"part": "part", "about": "what it does", "limit": "ended after"}))
    blocks.append(
        f"Together at most {total / 60:g} minutes. It writes this document and `benchmarks/results/gpu.json`. "
        '`make gpu ARGS="--data RECORDINGS"` takes real recordings; `make gpu ARGS=--tiny` only checks the code, on a '
        "CPU too, and writes to `build/`."
    )
    blocks += ["## Goals", "On one H100 or H200:", _goals(results), HOW]
    if results is not None:
        blocks += _measured(results)
    return "\n\n".join(blocks) + "\n"


def _head(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return NEVER
    gpu = results["gpu"]
    if results["size"] == "tiny":
        return "**Tiny sizes: this run checks that the benchmarks work. Its numbers say nothing about a GPU.**"
    return (
        f"Measured by `make gpu` on {gpu['name']} ({number(gpu['memory_gib'])} GiB, compute capability "
        f"{gpu['capability']}), CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}:\n\n{machines(results)}"
    )


def _goals(results: Mapping[str, Any] | None) -> str:
    rows = []
    for key, (part, about, wanted) in GOALS.items():
        found = done(results, part) if results is not None else None
        fact = found["facts"].get(key) if found is not None else None
        if fact is None:
            measured, judged = "not measured", ""
        else:
            value = fact["value"]
            measured = percent(value) if part == "agreement" else f"{number(value)} times"
            judged = verdict(fact["met"])
        rows.append({"goal": about, "wanted": wanted, "measured": measured, "verdict": judged})
    return table(rows, {"goal": "", "wanted": "goal", "measured": "measured", "verdict": ""})


COLUMNS = {
    "case": "case",
    "ms_per_step_of_all": "ms per step of all",
    "ms_per_trial_and_step": "ms per trial and step",
    "least": "least",
    "most": "most",
    "trial_mib": "MiB of the first trial",
    "ratio": "ratio",
    "median": "median",
    "min": "least",
    "max": "most",
    "strategy": "strategy",
    "epoch": "epoch",
    "loss_cpu": "loss on the CPU",
    "loss_device": "loss on the device",
    "difference": "relative difference",
    "moved": "positions in another cell",
    "test": "test",
    "reason": "reason",
    "what": "clock",
    "part": "part",
    "seconds": "seconds",
    "seconds_per_trial": "per trial",
    "share": "share",
    "against_the_sum": "against the sum of the trials",
    "remark": "the grid said",
}


def _measured(results: Mapping[str, Any]) -> list[str]:
    """A section for each part that ran, and what is missing."""
    blocks, missing = [], []
    for name, part in PARTS.items():
        entry = results["benchmarks"].get(name, {"status": "not run"})
        result = done(results, name)
        if result is None:
            reason = f" ({entry['reason']})" if "reason" in entry else ""
            missing.append(f"- `{name}`: {entry['status']}{reason}.")
            continue
        blocks += [f"## {part.title}", f"`{entry['command']}`, "
                   f"{number(entry['seconds'])} s, {entry['date']}."]  # fmt: skip
        if name == "cuda_tests":
            f = result["facts"]
            blocks.append(f"{f['passed']} passed, {f['failed']} failed, {f['skipped']} skipped.")
        shown = {"difference": percent, "moved": percent, "share": percent}
        blocks += [table(rows, {k: v for k, v in COLUMNS.items() if k in rows[0]}, shown)
                   for rows in result["tables"].values()]  # fmt: skip
        missing += [f"- {line}" for line in result["not_measured"]]
    return blocks + (["## Not measured", "\n".join(missing)] if missing else [])
