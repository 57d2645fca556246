"""Logged models: they load in a fresh process without pickle, agree with the run's predictions, and can be served."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import mlflow
import numpy as np
import pandas as pd
import pytest
from grid_fixture import tiny_grid  # noqa: F401 - the fixture is used by its name

import imbalance_lab
from imbalance_lab.data.cache import load_cached
from imbalance_lab.models.factory_code import reachable
from imbalance_lab.predictions import read_parquet
from mlflow_project import models
from mlflow_project.models import named_by_lines, packed, requirements

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
]

_LOAD = """
import sys, warnings
if sys.argv[4] == "without the package":
    from pathlib import Path

    # As in an environment that holds the requirements alone.
    for finder in [f for f in sys.meta_path if "editable" in str(f).lower()]:
        sys.meta_path.remove(finder)
    sys.path[:] = [p for p in sys.path if not (Path(p or ".") / "imbalance_lab").is_dir()]
import numpy as np
import pandas as pd
import mlflow.pyfunc
warnings.simplefilter("error", UserWarning)
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.read_parquet(sys.argv[2]))
import imbalance_lab
its_own = imbalance_lab.__file__.startswith(sys.argv[1])
assert its_own == (sys.argv[4] == "without the package"), imbalance_lab.__file__
np.savez(sys.argv[3], **{key: np.asarray(value) for key, value in answer.items()})
"""


def model_path(grid):
    client = mlflow.MlflowClient(tracking_uri=grid.uri)
    run = client.get_run(grid.children["logit-adjusted"])
    return client.get_logged_model(run.outputs.model_outputs[0].model_id).artifact_location.removeprefix("file://")


@pytest.mark.parametrize("environment", ["with the package", "without the package"])
def test_a_fresh_process_predicts_what_the_run_predicted(tiny_grid, tmp_path, environment):  # noqa: F811
    loaded = load_cached(tiny_grid.work / "data")
    d, windows = loaded.dataset, loaded.splits.test
    place = d.unit_position[windows]
    real = place >= 0
    columns = d.coding.decode(d.continuous[windows], d.categorical[windows])
    units = np.broadcast_to(d.unit[windows][:, None], place.shape)
    names = np.broadcast_to(d.groups[windows][:, None], place.shape)
    raw = {"its unit": units, "its step": place, "recording": names, **columns}
    frame = pd.DataFrame({name: values[real] for name, values in raw.items()})
    frame = frame.drop_duplicates(["its unit", "its step"]).sort_values(["its unit", "its step"]).reset_index(drop=True)
    frame.to_parquet(tmp_path / "in.parquet")
    script = tmp_path / "load.py"
    script.write_text(_LOAD, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            str(script),
            model_path(tiny_grid),
            *(str(tmp_path / f) for f in ("in.parquet", "out.npz")),
            environment,
        ],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "type hints to the" not in done.stderr
    answer = np.load(tmp_path / "out.npz", allow_pickle=False)
    test = read_parquet(tiny_grid.work / "trials" / "logit-adjusted-s0" / "predictions" / "test.parquet")
    for head, p in test.heads.items():
        served = {key: i for i, key in enumerate(zip(frame["its unit"], frame["its step"], strict=True))}
        at = np.array([served[key] for key in zip(p.sequence.tolist(), p.position.tolist(), strict=True)])
        assert len(answer[head]) == len(frame) >= len(at) == len(p) > 0
        np.testing.assert_allclose(answer[f"{head}_probabilities"][at, 0], p.probabilities, atol=1e-5)
        np.testing.assert_array_equal(answer[head][at, 0], np.array(p.classes)[p.pred])


def test_a_model_brings_what_serves_it_and_with_foreign_code_the_whole_library(tmp_path):
    few, whole = (set(ZipFile(packed(tmp_path, whole=which)).namelist()) for which in (False, True))
    assert few < whole
    assert {"imbalance_lab/__init__.py", "imbalance_lab/serving.py", "imbalance_lab/models/network.py"} <= few
    # What only types name, such as all of the public face in the package's own file, is not followed.
    assert not [name for name in few if name.split("/")[1] in ("run", "report", "plots", "audit", "analysis")]
    assert "imbalance_lab/report/templates/page.html" in whole


def test_the_lines_of_the_library_tell_what_its_grammar_tells():
    root = Path(imbalance_lab.__file__).parents[1]
    assert set(reachable(root, models._SERVED, named=named_by_lines)) == set(reachable(root, models._SERVED))


def test_pins_of_what_is_installed_are_not_compared_with_it(monkeypatch):
    from mlflow.utils import environment, requirements_utils

    looked = []
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    monkeypatch.setattr(requirements_utils.importlib_metadata, "packages_distributions", lambda: looked.append(1) or {})
    check = environment.warn_dependency_requirement_mismatches
    with models._pins_unchecked():
        _, pins, _ = environment._process_pip_requirements(None, list(requirements()))
    assert pins == requirements()
    assert not looked
    assert environment.warn_dependency_requirement_mismatches is check


def test_the_package_can_be_used_after_a_model_was_loaded(tiny_grid):  # noqa: F811
    everything = (
        "import sys, mlflow.pyfunc; mlflow.pyfunc.load_model(sys.argv[1]);"
        "import imbalance_lab.audit.auditing, imbalance_lab.spec, mlflow_project.grid, mlflow_project.evaluator"
    )
    command = [sys.executable, "-c", everything, model_path(tiny_grid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_of_a_model_is_a_pickle(tiny_grid):  # noqa: F811
    found = [f.name for f in Path(model_path(tiny_grid)).rglob("*") if f.suffix in (".pkl", ".pickle", ".joblib")]
    assert found == []


@pytest.mark.parametrize("file", ["artifacts/network/weights.pt", "artifacts/network/about.json"])
def test_a_model_whose_files_were_changed_is_not_served(tiny_grid, tmp_path, file):  # noqa: F811
    copy = shutil.copytree(model_path(tiny_grid), tmp_path / "model")
    (copy / file).write_bytes((copy / file).read_bytes() + b" ")
    with pytest.raises(ValueError, match="not those that were logged: found the digest"):
        mlflow.pyfunc.load_model(str(copy))


def test_a_library_that_was_changed_is_not_imported(tiny_grid, tmp_path, monkeypatch):  # noqa: F811
    copy = shutil.copytree(model_path(tiny_grid), tmp_path / "model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where it is not installed
    before = list(sys.path)
    archive = copy / "artifacts" / "imbalance_lab.zip"
    archive.write_bytes(archive.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"imbalance_lab\.zip is not the one that was logged"):
        mlflow.pyfunc.load_model(str(copy))
    assert sys.path == before


@contextmanager
def serving(app):
    """The address of a server on a free loopback port, in a thread."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    (socket,) = server.servers[0].sockets
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def test_the_scoring_server_answers_the_logged_example(tiny_grid):  # noqa: F811
    import requests
    from mlflow.pyfunc.scoring_server import init

    path = model_path(tiny_grid)
    model = mlflow.pyfunc.load_model(path)
    payload = Path(path, "serving_input_example.json").read_text(encoding="utf-8")
    json_type = {"Content-Type": "application/json"}
    with serving(init(model)) as address:
        assert requests.get(f"{address}/ping", timeout=30).status_code == 200
        answer = requests.post(f"{address}/invocations", data=payload, headers=json_type, timeout=60)
        wrong = requests.post(f"{address}/invocations", data='{"inputs": {"x": [1]}}', headers=json_type, timeout=60)
    assert answer.status_code == 200, answer.text
    assert wrong.status_code == 400
    served, direct = answer.json()["predictions"], model.predict(model.input_example)
    np.testing.assert_array_equal(np.asarray(served["command"]), np.asarray(direct["command"]))
    np.testing.assert_allclose(served["command_probabilities"], direct["command_probabilities"], atol=1e-6)
