"""``interpret`` on a run of a store: what it logs, and what it refuses."""

import numpy as np
import pytest

from imbalance_lab.data import preprocessing
from imbalance_lab.data.cache import save_loaded
from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits
from imbalance_lab.errors import InputError
from imbalance_lab.models.build import build_network, make_blueprint
from imbalance_lab.models.model_config import ModelConfig

pytest.importorskip("mlflow")


def tiny() -> LoadedData:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 6, 3)).astype(np.float32)
    rows = np.arange(24)
    data = SequenceDataset(
        continuous=x,
        categorical=np.zeros((24, 6, 0), dtype=np.int64),
        targets={"command": (x[..., 0] > 0).astype(np.int64)},
        heads={"command": ("A", "B")},
        groups=np.array([f"r{i % 4}" for i in rows]),
        channels=("a", "b", "c"),
        unit=rows,
        unit_position=np.tile(np.arange(6), (24, 1)),
        unit_length=np.full(24, 6),
    )
    return LoadedData(data, Splits(rows, rows, rows))


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A finished child run with a network, and the grid's local data."""
    import mlflow

    from imbalance_lab.learners.network_learner import write_network
    from imbalance_lab.run.terminal import quiet
    from mlflow_project.models import example_of, log_model
    from mlflow_project.tracking import RunLogger, Store

    quiet()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "work"))
    loaded = tiny()
    scaling = preprocessing.fit(loaded.dataset, loaded.splits.train)
    blueprint = make_blueprint(
        loaded.dataset, ModelConfig(hidden=8, attention_heads=2), {"command": "linear"}, {"command": 1.0}
    )
    network = build_network(blueprint, scaling.mean, scaling.std, loaded.dataset, loaded.splits.train, 0)
    write_network(tmp_path / "trial" / "network", network, blueprint, {})
    save_loaded(loaded, tmp_path / "work" / "parent" / "data")
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'store.db'}")
    experiment = client.create_experiment("x", artifact_location=(tmp_path / "artifacts").as_uri())
    tags = {"mlflow.parentRunId": "parent", "strategy": "focal", "seed": "1"}
    run = client.create_run(experiment, tags=tags)
    client.log_param(run.info.run_id, "data.digest", loaded.dataset.digest)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'store.db'}")
    logger = RunLogger(Store(client.tracking_uri, experiment, "x"), run.info.run_id)
    example = example_of(loaded.dataset, loaded.splits.train[:1])
    _, tags = log_model(logger, tmp_path / "trial" / "network", example, {})
    logger.tags(tags)
    empty = client.create_run(experiment)
    yield client, run.info.run_id, empty.info.run_id
    mlflow.set_tracking_uri(None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interpret_logs_to_the_run_and_refuses_what_it_cannot_read(child, capsys, tmp_path):
    from mlflow_project.__main__ import main

    client, run_id, empty = child
    assert main(["interpret", "--run_id", run_id, "--budget", "quick"]) == 0
    names = {item.path for item in client.list_artifacts(run_id)}
    assert {"interpretation.json", "figures", "report"} <= names
    assert any(i.path == "report/interpretation.html" for i in client.list_artifacts(run_id, "report"))

    assert main(["interpret", "--run_id", empty]) == 2
    assert "holds no model: it trained none" in capsys.readouterr().err
    assert main(["interpret", "--run_id", run_id, "--budget", "huge"]) == 2
    assert "allowed are quick, full" in capsys.readouterr().err
    assert main(["interpret"]) == 2
    assert "--run_id is missing" in capsys.readouterr().err

    client.set_tag(run_id, "mlflow.parentRunId", "gone")
    assert main(["interpret", "--run_id", run_id]) == 2
    assert "no spec.yaml" in capsys.readouterr().err


def test_a_network_and_data_that_do_not_fit_are_named():
    from dataclasses import replace
    from types import SimpleNamespace

    from imbalance_lab.learners.stored import StoredModel
    from imbalance_lab.run.model_data import check_fit
    from mlflow_project.commands.interpret import _check_digest

    loaded = tiny()
    inputs = StoredModel(None, loaded.dataset.coding, 6, 6, {"command": ("A", "B")}, {})
    run = SimpleNamespace(
        info=SimpleNamespace(run_id="r1"), data=SimpleNamespace(params={"data.digest": loaded.dataset.digest})
    )
    check_fit(inputs, loaded, "r1")
    _check_digest(loaded, run, "")
    with pytest.raises(InputError, match="channels differ"):
        check_fit(replace(inputs, coding=replace(inputs.coding, channels=("a", "b", "z"))), loaded, "r1")
    other = SimpleNamespace(info=run.info, data=SimpleNamespace(params={"data.digest": "0" * 16}))
    with pytest.raises(InputError, match="was trained on 0000"):
        _check_digest(loaded, other, "")
    _check_digest(loaded, other, "named")


def test_later_data_get_the_classes_and_the_coding_of_the_model():
    from dataclasses import replace

    from imbalance_lab.run.model_data import with_classes

    loaded = tiny()
    codes = loaded.dataset.targets["command"]
    known = {"command": ("Z", "B", "A")}
    found = with_classes(loaded, known).dataset
    names = np.array(["Z", "B", "A"])
    assert found.heads == known
    assert names[found.targets["command"]].tolist() == np.array(["A", "B"])[codes].tolist()
    fewer = replace(loaded, dataset=replace(loaded.dataset, heads={"command": ("A", "B", "C")}))
    assert with_classes(fewer, {"command": ("B", "A")}).dataset.heads == {"command": ("B", "A")}
    with pytest.raises(InputError, match="head 'command' holds the class 'A', which the model does not know"):
        with_classes(loaded, {"command": ("B", "C")})
