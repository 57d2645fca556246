"""The main job from outside: `mlflow run`, a killed run that goes on, and what a user gets to see."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import mlflow
import numpy as np
import pytest

from imbalance_lab.predictions import read_parquet

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "tests" / "experiments"


def environment(folder: Path) -> dict[str, str]:
    """A store and a work folder of the test's own."""
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "IMBALANCE_LAB_WORK": str(folder / "outputs"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def runs_of(folder: Path, experiment: str) -> tuple[mlflow.entities.Run, dict[str, mlflow.entities.Run]]:
    """The parent run and its children by name."""
    c = client(folder)
    found = c.get_experiment_by_name(experiment)
    assert found is not None
    runs = c.search_runs([found.experiment_id])
    parent = [r for r in runs if r.data.tags.get("role") == "grid"]
    assert len(parent) == 1
    return parent[0], {r.info.run_name: r for r in runs if r.data.tags.get("role") == "trial"}


def artifacts(c: mlflow.MlflowClient, run_id: str, path: str = "") -> set[str]:
    return {f.path for f in c.list_artifacts(run_id, path or None)}


def test_mlflow_run_on_real_recordings(tmp_path: Path, shared_dir: Path) -> None:
    data = shared_dir / "data" / "gcode_fingerprinting" / "raw"
    command = [
        sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local",
        "-P", f"experiment={EXPERIMENTS / 'tiny-motion.yaml'}", "-P", f"data={data}", "-P", "jobs=1",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mlflow ui --backend-store-uri" in done.stdout
    parent, children = runs_of(tmp_path, "tiny-motion")
    assert parent.info.status == "FINISHED"
    assert "owner" not in parent.data.tags  # nobody works on it any more
    assert set(children) == {"cross-entropy-s0", "weights-inverse-sqrt-s0"}
    c = client(tmp_path)
    assert len({child.data.tags["mlflow.runColor"] for child in children.values()}) == 2  # one for each strategy
    for child in children.values():
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert 0 < child.data.metrics["test/command/macro_f1"] <= 1
        assert child.data.metrics["test/command/accuracy"] <= 1
        assert child.data.params["data.digest"] == parent.data.params["data.digest"]
        assert child.inputs.dataset_inputs[0].dataset.digest == child.data.params["data.digest"]
        assert "macro F1" in child.data.tags["mlflow.note.content"]
        assert {
            "report",
            "tables",
            "figures",
            "predictions",
            "confusion.png",
            "error_analysis_report.json",
        } <= artifacts(c, child.info.run_id)
        assert {"tables/per_class.json", "tables/confusion.json", "tables/confused_pairs.json"} <= artifacts(
            c, child.info.run_id, "tables"
        )
        assert child.outputs.model_outputs
    assert {"comparison", "tables", "leaderboard.png", "audit"} <= artifacts(c, parent.info.run_id)
    assert "| strategy" in parent.data.tags["mlflow.note.content"]
    launcher = c.search_runs(["0"])
    assert len(launcher) == 1
    assert launcher[0].data.tags["parent_run_id"] == parent.info.run_id


def run_mill(folder: Path, *more: str, wait: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlflow_project", "run", "--experiment", str(EXPERIMENTS / "tiny-mill.yaml")]
    process = subprocess.Popen(
        [*command, "--jobs", "1", *more], env=environment(folder), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    if wait:
        output = process.communicate()[0]
        assert process.returncode == 0, output[-3000:]
    return process


def predictions_of(folder: Path) -> Mapping[str, np.ndarray]:
    _, children = runs_of(folder, "tiny-mill")
    found = {}
    for name, child in children.items():
        path = mlflow.artifacts.download_artifacts(
            run_id=child.info.run_id,
            artifact_path="predictions/test.parquet",
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
        )
        found[name] = read_parquet(Path(path)).heads["command"].probabilities
    return found


def test_killed_run_resumes_bit_identically(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    run_mill(whole)
    process = run_mill(cut, wait=False)
    deadline = time.monotonic() + 180
    while not list(cut.glob("outputs/*/checkpoints/*.pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    parent, before = runs_of(cut, "tiny-mill")
    assert parent.info.status == "RUNNING"
    run_mill(cut, "--resume", parent.info.run_id)
    resumed, children = runs_of(cut, "tiny-mill")
    assert resumed.info.run_id == parent.info.run_id
    assert resumed.info.status == "FINISHED"
    for name, child in before.items():
        assert children[name].info.run_id == child.info.run_id
    expected, got = predictions_of(whole), predictions_of(cut)
    assert set(expected) == set(got) == {"cross-entropy-s0", "curriculum-s0"}
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    c = client(cut)
    for child in children.values():
        steps = [m.step for m in c.get_metric_history(child.info.run_id, "train/loss")]
        assert steps == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


BAD_FILES = {
    "name: x\ndata: {source: simulated}\nstrategies: {a: {}}\nbaseline: a\nepochs: 3": ["epochs", "allowed are"],
    "name: x\ndata: {source: simulated}\nstrategies: {a: {loss: fokal}}\nbaseline: a": ["fokal", "focal"],
    "name: x\ndata: {source: simulated}\nstrategies: {a: {loss: {focal: {gamma: -1}}}}\nbaseline: a": ["gamma", "-1"],
    "name: x\ndata: {source: simulated}\nstrategies: {a: {}}\nbaseline: b": ["baseline", "'b'", "a"],
    "name: x\ndata: {source: simulated}\nstrategies: {a: {}}\nbaseline: a\nseeds: [0, 1, 0]": ["seeds", "twice"],
    "name: x\ndata: {source: simulated}\nstrategies: {a: {}}\nbaseline: a\ntraining: {epochs: many}": [
        "training.epochs",
        "many",
    ],
    "name: x\ndata: {source: nowhere}\nstrategies: {a: {}}\nbaseline: a": ["nowhere", "recordings"],
    "name: x\ndata: [": ["line", "YAML"],
    "- 1\n- 2": ["list", "mapping"],
}


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize(("text", "needed"), BAD_FILES.items())
def test_bad_experiment_is_one_sentence(
    text: str, needed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow_project.__main__ import main

    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    assert main(["run", "--experiment", str(path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    for part in ["bad.yaml", *needed]:
        assert part in message, message


BAD_FLAGS = {
    "--strategies nonsense": ["nonsense", "cross-entropy"],
    "--seeds 0,x": ["--seeds", "0,x"],
    "--seeds 1,1": ["seeds", "twice"],
    "--epochs 0": ["epochs", "0"],
    "--device cuda:99": ["cuda:99", "cpu"],
    "--device tpu": ["device", "tpu"],
    "--jobs 0": ["jobs", "0"],
    "--experiment missing.yaml": ["missing.yaml", "no such"],
    "--resume 0123": ["0123"],
}


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize(("flags", "needed"), BAD_FLAGS.items())
def test_bad_flag_is_one_sentence(flags: str, needed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow_project.__main__ import main

    assert main(["run", "--experiment", str(EXPERIMENTS / "tiny-mill.yaml"), *flags.split()]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    for part in needed:
        assert part in message, message


@pytest.mark.usefixtures("_store")
def test_unreachable_tracking_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow_project.__main__ import main

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["run", "--experiment", str(EXPERIMENTS / "tiny-mill.yaml")]) == 2
    message = capsys.readouterr().err
    assert "http://127.0.0.1:9" in message
    assert "does not answer" in message


STORES = {
    "no such kind": "bogus://user:{}@host/x",
    "no driver": "postgresql+nodriver://user:{}@127.0.0.1:9/x",
    "a folder": "file://user:{}@host/x",
    "no database": "sqlite:///{}.db",
}
COMMANDS = {
    "run": ["--resume", "last"],
    "audit": ["--experiment", str(EXPERIMENTS / "tiny-mill.yaml")],
    "analyze": ["--run_id", "a"],
    "evaluate": ["--model", "runs:/a/model", "--data", "x.csv"],
    "interpret": ["--run_id", "a"],
    "compare": ["--run_ids", "a,b"],
    "promote": ["--parent_run_id", "a"],
}


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("store", STORES)
def test_no_command_opens_a_store_that_is_none(
    store: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow_project.__main__ import main

    monkeypatch.chdir(tmp_path)
    Path("s3cret.db").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORES[store].format("s3cret"))
    assert main([command, *COMMANDS[command]]) == 2
    (message,) = capsys.readouterr().err.strip().splitlines()
    assert "does not answer" in message
    assert store == "no database" or "s3cret" not in message
