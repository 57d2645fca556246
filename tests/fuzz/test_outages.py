"""A tracking server behind a network that drops, delays and stops: the grid ends and every number is there.

Only ``make fuzz`` runs it (``FUZZ_SEED`` is set): the delays are real.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import pytest
import stopping_cases as cases
from browser_server import running_server

pytestmark = [
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.skipif("FUZZ_SEED" not in os.environ, reason="make fuzz runs it: minutes of real delays"),
]

ERRORS, DROPS, LATE = 0.10, 0.05, 0.05  # of requests: answered with 500, without an answer, after DELAY_S
DELAY_S = 2.0
EVERY_S, OUT_S = 20.0, 5.0  # so often, and so long, nobody answers
_REPEATABLE = ("log-batch", "set-tag", "set-experiment-tag", "runs/update")
"""Calls that a server may have obeyed before the network lost its answer: obeying twice changes nothing."""


@contextmanager
def proxy(uri: str, seed: int) -> Iterator[tuple[str, dict[str, int]]]:
    """The address of a proxy on this machine that fails as above, and what it did so far."""
    behind, rng, begun = urlsplit(uri), random.Random(seed), time.monotonic()
    done = dict.fromkeys(("answered", "errors", "drops", "delays", "out"), 0)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                chance = rng.random()
            if (time.monotonic() - begun) % EVERY_S > EVERY_S - OUT_S:
                return self._lost("out")
            if chance < ERRORS + DROPS:
                if chance < ERRORS / 2 and any(call in self.path for call in _REPEATABLE):
                    self._forward(body)
                return self._refused() if chance < ERRORS else self._lost("drops")
            if chance < ERRORS + DROPS + LATE:
                done["delays"] += 1
                time.sleep(DELAY_S)
            status, headers, content = self._forward(body)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            done["answered"] += 1

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(str(behind.hostname), behind.port, timeout=120)
            headers = {**dict(self.headers.items()), "Host": behind.netloc}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            out = answer.status, answer.getheaders(), answer.read()
            connection.close()
            return out

        def _refused(self) -> None:
            done["errors"] += 1
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _lost(self, why: str) -> None:
            done[why] += 1
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: Any) -> None:
            return

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._one)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", done
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def numbers(uri: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Each metric of each run by name, without seconds; runs are finished, and no step is logged twice."""
    client, found = mlflow.MlflowClient(tracking_uri=uri), {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        assert run.info.status == "FINISHED", run.info.run_name
        assert run.info.run_name not in found
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        found[run.info.run_name] = {
            key: [(point.step, point.value) for point in history]
            for key, history in histories.items()
            if "second" not in key  # nor steps per second
        }
    return found


def test_every_number_arrives_through_a_network_that_fails(tmp_path: Path) -> None:
    grid, plain = tmp_path / "grid", tmp_path / "plain"
    process = cases.start(plain, "--experiment", str(cases.MILL), store=cases.empty_store(tmp_path))
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    with running_server(tmp_path) as uri:
        with proxy(uri, int(os.environ["FUZZ_SEED"])) as (address, done):
            process = cases.start(grid, "--experiment", str(cases.MILL), MLFLOW_TRACKING_URI=address)
            out, err = process.communicate(timeout=1200)
        assert process.returncode == 0, out[-2000:] + err[-3000:]
        assert min(done.values()) > 0, done
        assert numbers(uri) == numbers(f"sqlite:///{plain}/mlflow.db")
