"""The example of a network of one's own from outside: trained by `run`, its model served when its files are gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from test_end_to_end import ROOT, client, environment, runs_of


def test_the_example_is_trained_logged_with_its_code_and_served_without_its_files(tmp_path: Path) -> None:
    example = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "own_network", example)
    experiment = yaml.safe_load((example / "pair.yaml").read_text(encoding="utf-8"))
    experiment["interpret"] = {"budget": "off"}
    (example / "pair.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    where = environment(tmp_path) | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "mlflow_project", "run", "--experiment", str(example / "pair.yaml")]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(example)
    _, children = runs_of(tmp_path, "own-pair")
    assert set(children) == {"cross-entropy-s0", "logit-adjusted-s0"}
    run = children["cross-entropy-s0"]
    assert run.data.params["spec.model.factory"] == "pair_network:build"
    assert len(run.data.params["spec.model.code"]) == 16
    (model_id,) = [m.model_id for m in run.outputs.model_outputs]
    folder = Path(client(tmp_path).get_logged_model(model_id).artifact_location.removeprefix("file://"))
    files = {f.name for f in folder.rglob("*") if f.is_file()}
    assert {"pair_network.py", "team_parts.py", "weights.pt"} <= files
    assert not {f for f in files if f.endswith((".pkl", ".pickle"))}
    code = (
        "import mlflow, numpy as np\n"
        f"model = mlflow.pyfunc.load_model('models:/{model_id}')\n"
        "example = model.input_example\n"
        "answer = model.predict(example)\n"
        "p = answer['command_probabilities']\n"
        "assert p.ndim == 3 and np.allclose(p.sum(axis=-1), 1, atol=1e-5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=tmp_path, env=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_bad_code_stops_with_exit_code_2_before_a_run_begins(tmp_path: Path) -> None:
    example = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "own_network", example)
    (example / "team_parts.py").write_text("Backbone = Heads = None\n", encoding="utf-8")
    where = environment(tmp_path) | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "mlflow_project", "run", "--experiment", str(example / "pair.yaml")]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert done.returncode == 2
    assert "model.factory: found 'pair_network:build', which does not import" not in done.stderr
    assert "'pair_network:build' raised TypeError" in done.stderr
    assert "Traceback" not in done.stderr
