"""The steps of a phase, launched one by one or, on CUDA, replayed as one graph each."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import AbstractContextManager, nullcontext

import torch

from imbalance_lab.training.noise_stream import NoiseStream
from imbalance_lab.training.step import Step

_WARM = 3  # steps of a batch size that are launched one by one before it is captured: libraries allocate at first use


class Launcher:
    """Launches the steps of one phase, each on the training's own stream and with its own noise.

    On CUDA a step is captured once per batch size, after :data:`_WARM` real steps of that size, and replayed from then
    on: nothing has to be undone, since a capture computes nothing. Where a capture fails, the phase goes on step by
    step and a warning says why.
    """

    def __init__(self, step: Step, noise: NoiseStream, stream: torch.cuda.Stream | None, graphs: bool) -> None:
        self.step, self._noise, self._stream = step, noise, stream
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._launched: Counter[int] = Counter()
        self._capture = graphs and stream is not None

    def __call__(self, number: int) -> None:
        """Launch the step with that number of the epoch; returns before it is computed."""
        size = self.step.size(number)
        with self.on_stream(), self._noise():
            if self._capture and size not in self._graphs and self._launched[size] >= _WARM:
                self._try(size)
            graph = self._graphs.get(size)
            if graph is None:
                self.step.launch(number)
            else:
                graph.replay()
        self._launched[size] += 1

    def on_stream(self) -> AbstractContextManager[object]:
        """The training's stream; nothing on a CPU."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _try(self, size: int) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            if self.step.augment is not None:
                graph.register_generator_state(self.step.generator)
            # Gradients of the steps so far are dropped, so that those of the graph lie in its own memory.
            self.step.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self.step.work(size)
        except RuntimeError as error:
            # A capture that was left by an error may end with one of its own, about the capture.
            if (memory := _out_of_memory(error)) is not None:
                raise memory from None
            self._capture = False
            self._graphs.clear()
            self.step.optimizer.zero_grad(set_to_none=True)
            reason = " ".join(str(error).split())[:200]
            warnings.warn(
                f"the training step cannot be captured as a CUDA graph and is launched kernel by kernel ({reason})",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            self._graphs[size] = graph


def _out_of_memory(error: BaseException | None) -> torch.OutOfMemoryError | None:
    """The error, or the one that it was raised in place of, if that is about memory."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error
