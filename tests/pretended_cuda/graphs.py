"""CUDA graphs and streams: what may be captured, and that a replay is one launch.

A captured step is recorded once and replayed as it is. The driver refuses to record what waits for the host or
copies from it, PyTorch refuses a generator that the graph does not know, and a number of the host would keep the
value that it had: the watch refuses all of these (:meth:`pretended_cuda.watch.Watch.note`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pretended_cuda.found import Found
from pretended_cuda.watch import Watch


class Stream:
    """Work on it is done at once; there is nothing to wait for."""

    watch: Watch
    device_index, stream_id = 0, 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def is_capturing(self) -> bool:
        return self.watch.captures is not None

    def wait_stream(self, other: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> Event:
        return event or Event()

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None: ...


class Event:
    """Has always happened."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 1.0


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``; ``recorded`` are the kernels of a replay."""

    watch: Watch

    def __init__(self, *_: Any, **__: Any) -> None:
        self.recorded: Found | None = None
        self.generators: list[Any] = []

    def register_generator_state(self, generator: Any) -> None:
        self.generators.append(generator)

    def capture_begin(self, *_: Any, **__: Any) -> None:
        self._open = contextlib.ExitStack()
        self._recording = self._open.enter_context(self.watch.capturing(self.generators))

    def capture_end(self) -> None:
        self._open.close()
        self.recorded = self._recording

    def capture_abandon(self) -> None:
        self._open.close()

    def replay(self) -> None:
        if self.recorded is None:
            raise RuntimeError("called CUDAGraph::replay without a preceding successful capture")
        self.watch.replayed(self.recorded)

    def reset(self) -> None:
        self.recorded = None

    def pool(self) -> tuple[int, int]:
        return (0, 1)


def answers(watch: Watch) -> dict[str, Any]:
    """What ``torch.cuda`` has of graphs and streams, by name."""
    kind = type("Stream", (Stream,), {"watch": watch})
    stream = kind()

    @contextlib.contextmanager
    def graph(of: Graph, *_: Any, **__: Any) -> Iterator[None]:
        of.capture_begin()
        try:
            yield
        except BaseException:
            of.capture_abandon()
            raise
        of.capture_end()

    def synchronize(*_: Any) -> None:
        watch.note("host read", "synchronize")

    return {
        "CUDAGraph": type("Graph", (Graph,), {"watch": watch}),
        "graph": graph,
        "graph_pool_handle": lambda: (0, 1),
        "is_current_stream_capturing": stream.is_capturing,
        "Stream": kind,
        "Event": Event,
        "current_stream": lambda *_: stream,
        "default_stream": lambda *_: stream,
        "stream": lambda s: contextlib.nullcontext() if s is None else s,
        "synchronize": synchronize,
    }
