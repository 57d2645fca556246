"""``evaluate``: models of series, tables and recordings on data that came later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from imbalance_lab.predictions import HeadPredictions, Predictions, read_parquet
from imbalance_lab.simulator.mill import simulate
from imbalance_lab.simulator.mill_options import SimulatedOptions
from mlflow_project.__main__ import main
from mlflow_project.models import logged_models

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),
    pytest.mark.filterwarnings("ignore:::mlflow"),
]

TRAINING = {"epochs": 2, "batch_size": 16, "device": "cpu", "learning_rate": 1e-2}
COMMON = {
    "audit": {"budget": "off"},
    "interpret": {"budget": "off"},
    "model": {"hidden": 16, "layers": 1, "attention_heads": 2},
    "training": TRAINING,
    "seeds": [0],
}
SOURCES = {
    "series": {
        "data": {
            "source": "series",
            "path": "x",
            "recording": "run",
            "order": "t",
            "target": "state",
            "categorical": ["mode"],
            "window": {"length": 8, "stride": 8},
            "split": {"fractions": [0.34, 0.33, 0.33]},
        },
        "strategies": {"cross-entropy": {}},
    },
    "table": {
        "data": {
            "source": "table",
            "path": "x",
            "target": "state",
            "group": "run",
            "exclude": ["t"],
            "split": {"fractions": [0.34, 0.33, 0.33]},
        },
        "strategies": {"forest": {"table": {"plain": {"classifier": "random-forest"}}}},
        "baseline": "forest",
    },
    "recordings": {
        "data": {"source": "recordings", "path": "x", "window": {"length": 32, "stride": 32}, "task": "steps"},
        "strategies": {"cross-entropy": {}},
    },
    "sequences": {
        "data": {"source": "sequences", "path": "x", "split": {"fractions": [0.34, 0.33, 0.33]}},
        "strategies": {"cross-entropy": {}},
        "selection": {"metric": "tool/macro_f1"},
        "training": {**TRAINING, "epochs": 16, "batch_size": 4},
    },
}


def rows(seed: int, rare: int = 2, runs: int = 9) -> pd.DataFrame:
    """Series of 24 steps, whose state follows from a channel; ``rare`` steps of each are of the rare state."""
    rng = np.random.default_rng(seed)
    t = np.tile(np.arange(24), runs)
    state = np.where(t < rare, 2, np.where(t < 10, 1, 0))
    return pd.DataFrame(
        {
            "run": np.repeat([f"r{seed}_{i}" for i in range(runs)], 24),
            "t": t,
            "a": 3.0 * state + rng.normal(size=len(t)) * 0.3,
            "b": rng.normal(size=len(t)),
            "mode": np.where(t % 2, "x", "y"),
            "state": np.array(["idle", "cut", "stop"])[state],
        }
    )


def arrays(seed: int, runs: int = 12) -> dict[str, np.ndarray]:
    """Sequences of 6 steps, four of each recording; a channel tells the tool, which alone tells the wear."""
    rng = np.random.default_rng(seed)
    tool = rng.integers(0, 3, (4 * runs, 6))
    wear = (tool > 0).astype(int)
    wear[:, 5] = -100
    return {
        "continuous": (2.0 * tool[..., None] + rng.normal(size=(*tool.shape, 2)) * 0.3).astype(np.float32),
        "categorical": rng.integers(0, 3, (*tool.shape, 1)),
        "tool_targets": tool,
        "wear_targets": wear,
        "recording": np.repeat([f"r{seed}_{i:02d}" for i in range(runs)], 4),
    }


def recordings(seed: int) -> pd.DataFrame:
    return simulate(SimulatedOptions(source="simulated", n_recordings=9, seed=seed).mill())


@dataclass(frozen=True)
class Store:
    folder: Path
    client: mlflow.MlflowClient
    run_ids: dict[str, str] = field(default_factory=dict)

    def trained(self, source: str) -> str:
        """The run that trained on a source; it is run when it is asked for."""
        if source not in self.run_ids:
            suffix = "npz" if source == "sequences" else "parquet"
            data, experiment = self.folder / f"{source}.{suffix}", self.folder / f"{source}.yaml"
            if source == "sequences":
                np.savez(data, **arrays(0))
            else:
                (recordings(0) if source == "recordings" else rows(0)).to_parquet(data, index=False)
            experiment.write_text(yaml.safe_dump({"name": source, **COMMON, **SOURCES[source]}))
            with redirect_stdout(StringIO()) as said:
                assert main(["run", "--experiment", str(experiment), "--data", str(data), "--jobs", "1"]) == 0
            head = {"sequences": "tool", "recordings": "command"}.get(source, "state")
            assert f"-s0: {head}/macro_f1 0." in said.getvalue()
            where = self.client.get_experiment_by_name(source).experiment_id
            self.run_ids[source] = self.client.search_runs([where], "tags.role = 'trial'")[0].info.run_id
        return self.run_ids[source]

    def later(self, table: pd.DataFrame, name: str = "later") -> str:
        path = self.folder / f"{name}.csv"
        table.to_csv(path, index=False)
        return str(path)

    def latest(self) -> mlflow.entities.Run:
        found = [e.experiment_id for e in self.client.search_experiments()]
        run = self.client.search_runs(found, "tags.role = 'evaluation'", order_by=["start_time DESC"])[0].info.run_id
        return self.client.get_run(run)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("IMBALANCE_LAB_WORK", str(folder / "work"))
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        patch.setattr("imbalance_lab.plots.style.DPI", 40)  # the pictures are not looked at
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        yield Store(folder, client)


@pytest.mark.parametrize("source", ["series", "table"])
def test_what_changed_is_said(store: Store, capsys: pytest.CaptureFixture[str], source: str) -> None:
    table = rows(1, rare=8)
    assert main(["evaluate", "--model", f"runs:/{store.trained(source)}", "--data", store.later(table)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "216 positions of 9 recordings" in said
    assert "stop 8.3 % -> 33.3 % (+25.0 to +25.0 points)" in said
    assert "No column that the model reads is missing." in said
    run = store.latest()
    assert run.data.tags["model_run_id"] == store.trained(source)
    names = {item.path for item in store.client.list_artifacts(run.info.run_id)}
    assert {"report", "tables", "changes.json", "predictions", "error_analysis_report.json"} <= names
    frame = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/tables/changes.json"))
    share = frame[(frame["measure"] == "share") & (frame["class"] == "stop")].iloc[0]
    assert (share["before"], share["after"]) == pytest.approx((2 / 24, 8 / 24))
    assert share["low"] <= share["difference"] <= share["high"]
    assert share["verdict"] == "higher"
    trained = store.client.get_run(store.trained(source))
    assert [m.model_id for m in run.inputs.model_inputs] == [trained.outputs.model_outputs[0].model_id]


def test_a_version_of_the_registry(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    made = store.client.get_run(store.trained("series")).outputs.model_outputs[0].model_id
    mlflow.set_tracking_uri(store.client.tracking_uri)
    version = mlflow.register_model(f"models:/{made}", "mine").version
    store.client.set_registered_model_alias("mine", "champion", version)
    assert main(["evaluate", "--model", "models:/mine@champion", "--data", store.later(rows(2))]) == 0
    tags = store.latest().data.tags
    assert (tags["model_name"], tags["model_version"], tags["strategy"]) == ("mine", str(version), "cross-entropy")
    assert main(["evaluate", "--model", f"models:/mine/{version}", "--data", store.later(rows(2))]) == 0
    capsys.readouterr()


def test_data_like_the_test_data_do_not_differ(store: Store) -> None:
    """The model's own test recordings: the same numbers as in its report."""
    assert main(["evaluate", "--model", store.trained("series"), "--data", str(store.folder / "series.parquet")]) == 0
    run = store.latest()
    frame = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/tables/changes.json"))
    assert (frame.loc[frame["measure"] == "share", "difference"].abs() < 1e-9).all()


def test_recordings(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.folder / "next.parquet"
    recordings(5).to_parquet(path, index=False)
    assert main(["evaluate", "--model", f"runs:/{store.trained('recordings')}", "--data", str(path)]) == 0
    assert "of 9 recordings; the test report has" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("source", ["series", "table"])
def test_missing_and_unknown(store: Store, capsys: pytest.CaptureFixture[str], source: str) -> None:
    table = rows(3).rename(columns={"a": "A_1", "mode": "Mode"})
    model = f"runs:/{store.trained(source)}"
    assert main(["evaluate", "--model", model, "--data", store.later(table.drop(columns="Mode").assign(mode="x"))]) == 2
    error = capsys.readouterr().err
    assert "no column 'a', which the model reads" in error
    assert "--allow_missing" in error
    assert main(["evaluate", "--model", model, "--data", store.later(table), "--allow_missing", "true"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "read as missing: a, mode." in said
    strange = rows(4)
    strange.loc[strange["t"] == 3, "mode"] = "z"
    strange.loc[strange["t"] == 20, "state"] = "alarm"
    assert main(["evaluate", "--model", model, "--data", store.later(strange)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "classes that the model does not know, not scored: 'alarm' 9" in said
    assert "mode: 9 rows hold categories that train does not (z 9)" in said
    about = mlflow.artifacts.load_dict(f"runs:/{store.latest().info.run_id}/changes.json")
    assert about["unknown_classes"] == {"state": {"alarm": 9}}


def test_sequences(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Every head is told of: the tool is never 2 and once unknown, and wear is labelled the other way round."""
    later = arrays(1)
    true = later["tool_targets"]
    later["wear_targets"] = np.where(later["wear_targets"] >= 0, 1 - later["wear_targets"], -100)
    later["tool_targets"] = np.where(true == 2, -100, true)
    later["tool_targets"][0, 0] = 7
    np.savez(store.folder / "later.npz", **later)
    model = f"runs:/{store.trained('sequences')}"
    assert main(["evaluate", "--model", model, "--data", str(store.folder / "later.npz")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    scored = int((later["tool_targets"] >= 0).sum()) - 1
    assert f"tool: {scored} positions of 12 recordings" in said
    assert "(mean of the classes that occur: 3 before, 2 now)" in said
    assert "classes that the model does not know, not scored: '7' 1" in said
    run = store.latest()
    frame = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/tables/changes.json"))
    wear = frame[(frame["head"] == "wear") & (frame["measure"] == "accuracy")].iloc[0]
    assert wear["verdict"] == "lower"
    assert f"wear: accuracy {wear['before']:.3f} before, {wear['after']:.3f} now" in said
    served = mlflow.pyfunc.load_model(f"models:/{run.inputs.model_inputs[0].model_id}")
    answer = served.predict({name: later[name].astype(np.float64) for name in ("continuous", "categorical")})
    right = np.asarray(answer["wear"]).astype(int) == later["wear_targets"]
    assert wear["after"] == pytest.approx(right[:, :5].mean())


def answers(run_id: str, split: str) -> Predictions:
    return read_parquet(Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/predictions/{split}.parquet")))


def by_place(head: HeadPredictions) -> dict[tuple[str, int], np.ndarray]:
    groups = [head.group_names[code] for code in head.group]
    return dict(zip(zip(groups, head.position.tolist(), strict=True), head.probabilities, strict=True))


def test_a_promoted_correction(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """It answers as its corrected test report did, and is compared with that."""
    trained, corrected = store.trained("series"), "cross-entropy + free lunch"
    parent = store.client.get_run(trained).data.tags["mlflow.parentRunId"]
    assert main(["promote", "--parent_run_id", parent, "--strategy", corrected, "--model_name", "corrected"]) == 0
    data = str(store.folder / "series.parquet")
    assert main(["evaluate", "--model", "models:/corrected@champion", "--data", data]) == 0
    capsys.readouterr()
    run = store.latest()
    assert run.data.tags["strategy"] == corrected
    assert run.info.run_name == f"evaluation of {corrected} on series.parquet"
    plain = answers(trained, "test")
    own, now = plain.free_lunch().heads["state"], answers(run.info.run_id, "evaluate").heads["state"]
    assert np.abs(own.probabilities - plain.heads["state"].probabilities).max() > 0.01
    found = by_place(now)
    for place, p in by_place(own).items():
        np.testing.assert_allclose(found[place], p, atol=1e-5)
    frame = pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/tables/changes.json"))
    before = frame.set_index("measure").loc["accuracy", "before"]
    assert before == pytest.approx((own.true == own.pred).mean())


def test_one_recording_has_no_interval(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    data = store.later(rows(6, runs=1))
    assert main(["evaluate", "--model", f"runs:/{store.trained('series')}", "--data", data]) == 0
    assert "no interval" in " ".join(capsys.readouterr().out.split())


def test_what_is_refused(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good, data = f"runs:/{store.trained('series')}", store.later(rows(1))
    parent = store.client.get_run(store.trained("series")).data.tags["mlflow.parentRunId"]
    for model, where, words in (
        ("", data, "give --model"),
        (good, "", "give --model"),
        ("runs:/" + "f" * 32, data, "no run"),
        ("models:/nobody@champion", data, "no model 'models:/nobody@champion'"),
        ("champion of all", data, "allowed are models:/NAME@ALIAS"),
        (f"runs:/{parent}", data, "holds no model: it trained none"),
        (good, str(tmp_path / "none.csv"), "does not exist"),
        (good, store.later(rows(1).assign(state="alarm"), "strange"), "no position has a class that the model knows"),
        (good, store.later(rows(1).drop(columns="state"), "unlabelled"), "no column 'state'"),
    ):
        assert main(["evaluate", "--model", model, "--data", where]) == 2
        assert words in capsys.readouterr().err.replace("\n", " ")


def test_a_model_of_another_version(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    experiment = store.client.get_run(store.trained("table")).info.experiment_id
    run_id = store.client.create_run(experiment).info.run_id
    (tmp_path / "artifacts" / "network").mkdir(parents=True)
    (tmp_path / "artifacts" / "network" / "about.json").write_text(json.dumps({"format": 99}))
    model = store.client.create_logged_model(experiment, "model", source_run_id=run_id)
    store.client.log_model_artifacts(model.model_id, str(tmp_path))
    store.client.finalize_logged_model(model.model_id, "READY")
    assert main(["evaluate", "--model", f"runs:/{run_id}", "--data", store.later(rows(1))]) == 2
    assert "it is damaged, or of another version" in capsys.readouterr().err


def test_a_model_whose_files_were_changed_is_not_loaded(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = store.client.get_run(store.trained("table"))
    run_id, data = run.info.run_id, store.later(rows(1))
    (model,) = logged_models(store.client, run)
    parent = run.data.tags["mlflow.parentRunId"]
    abouts = {
        place: list(Path(uri.removeprefix("file://")).rglob("about.json"))
        for place, uri in (("run", run.info.artifact_uri), ("model", model.artifact_location))
    }
    assert not abouts["run"], "a model is stored once"
    (about,) = abouts["model"]
    kept = about.read_bytes()
    try:
        about.write_bytes(kept + b" ")  # still the same values
        for command in (
            ["evaluate", "--model", f"runs:/{run_id}", "--data", data],
            ["evaluate", "--model", f"models:/{model.model_id}", "--data", data],
            ["interpret", "--run_id", run_id],
            ["promote", "--parent_run_id", parent, "--strategy", "forest", "--model_name", "changed"],
        ):
            assert main(command) == 2
            said = capsys.readouterr().err.replace("\n", " ")
            assert f"of run '{run_id}' are not those that were logged" in said
            assert "the model is not loaded" in said
    finally:
        about.write_bytes(kept)
    assert not store.client.search_registered_models("name = 'changed'")
