"""Small inputs that once went wrong: one folder of ``tests/cases`` each, with what is right in its ``case.yaml``.

``case.yaml`` has the keys:

- ``command``: ``load`` (only read the data), or a command of ``python -m mlflow_project`` with its options, as a list;
- ``experiment``: what differs from :data:`_BASE`, of whose ``data`` the options of a table are kept for tables only;
  ``data.path`` is relative to the folder;
- ``then``: a second command, in which ``{run}`` is the run that was trained and ``{folder}`` the folder of the case;
- ``expect``: ``exit`` (default 0), ``words`` and ``no_words`` of everything printed; for ``load`` also ``classes``,
  ``channels``, ``categorical`` (names), ``facts`` (name to a part of the text), ``same`` (a file of the same data,
  which has an equal digest, with ``same_options`` of its own) and ``every_class_in_train``; for ``audit`` and ``run``
  also ``page`` (words of the audit's page); for ``train`` also ``metrics`` (key to value) and ``keys`` (each class has
  a recall of its own, the right one).
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options
from mlflow_project.__main__ import main

CASES = Path(__file__).resolve().parents[1] / "cases"
_BASE: dict[str, Any] = {
    "name": "case",
    "description": "a small input",
    "data": {
        "source": "table",
        "target": "class",
        "split": {"stratify": "target", "fractions": [0.6, 0.2, 0.2], "seed": 0},
    },
    "audit": {"on_fail": "warn", "budget": "quick"},
    "interpret": {"budget": "off"},
    "model": {"name": "mlp", "hidden": 8, "dropout": 0.0},
    "training": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01, "patience": 1, "device": "cpu"},
    "seeds": [0],
    "baseline": "plain",
    "strategies": {"plain": {"table": "plain"}},
    "selection": {"metric": "auto/macro_f1", "split": "val"},
}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose tables are made; making them takes longer than most cases."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("store")
    SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder))
    return folder / "mlflow.db"


def _experiment(case: dict[str, Any]) -> dict[str, Any]:
    changes = case.get("experiment", {})
    data = changes.get("data", {})
    return {**_BASE, **changes, "data": {**_BASE["data"], **data} if "source" not in data else data}


@pytest.mark.parametrize("folder", sorted(p.parent for p in CASES.glob("*/case.yaml")), ids=lambda p: p.name)
def test_case(
    folder: Path,
    tmp_path: Path,
    empty_store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    experiment, expect = _experiment(case), case["expect"]
    if case["command"] == "load":
        code, said = _load(folder, experiment["data"], expect)
    else:
        experiment["data"] = {**experiment["data"], "path": str(folder / experiment["data"]["path"])}
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.chdir(tmp_path)
        command, *options = case["command"]
        code = main([command, "--experiment", str(file), *options])
        if "then" in case:
            known = {"run": _trained(tmp_path).info.run_id, "folder": folder}
            code = code or main([word.format(**known) for word in case["then"]])
        captured = capsys.readouterr()
        said = captured.out + captured.err
    assert code == expect.get("exit", 0), said
    for word in expect.get("words", []):
        assert word in said
    for word in expect.get("no_words", []):
        assert word not in said
    if "page" in expect:
        (page,) = tmp_path.glob("outputs/*/audit/index.html")
        shown = html.unescape(page.read_text(encoding="utf-8"))
        assert [word for word in expect["page"] if word not in shown] == []
    if expect.get("keys") or "metrics" in expect:
        _check_metrics(tmp_path, expect)


def _trained(folder: Path) -> Any:
    import mlflow

    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.role = 'trial'")
    return run


def _check_metrics(folder: Path, expect: dict[str, Any]) -> None:
    """Metrics of the run: those expected, and of each class the recall that scikit-learn finds in its predictions."""
    from sklearn.metrics import recall_score

    from imbalance_lab.predictions import read_parquet

    run = _trained(folder)
    found = run.data.metrics
    for key, value in expect.get("metrics", {}).items():
        assert found[key] == pytest.approx(value)
    if not expect.get("keys"):
        return
    predictions = read_parquet(next(folder.glob(f"mlruns/*/{run.info.run_id}/artifacts/predictions/test.parquet")))
    expected = []
    for head in predictions.heads.values():
        recalls = recall_score(head.true, head.pred, labels=range(len(head.classes)), average=None)
        assert set(head.true.tolist()) == set(range(len(head.classes)))
        expected += recalls.tolist()
    logged = [value for name, value in found.items() if re.fullmatch(r"test/[^/]+/recall/[^/]+", name)]
    assert sorted(logged) == pytest.approx(sorted(expected))
    assert all(len(name) <= 250 for name in found)


def _load(folder: Path, data: dict[str, Any], expect: dict[str, Any]) -> tuple[int, str]:
    try:
        loaded = load_data(parse_options(data), folder)
    except InputError as error:
        return 2, str(error)
    dataset = loaded.dataset
    if expect.get("every_class_in_train"):
        assert all(dataset.class_counts(head, loaded.splits.train).all() for head in dataset.heads)
    if "classes" in expect:
        assert list(next(iter(dataset.heads.values()))) == expect["classes"]
    if "channels" in expect:
        assert list(dataset.channels) == expect["channels"]
    if "categorical" in expect:
        assert list(dataset.categorical_channels) == expect["categorical"]
    for name, part in expect.get("facts", {}).items():
        assert part in str(dataset.facts.get(name)), dataset.facts
    if "same" in expect:
        options = {**data, **expect.get("same_options", {}), "path": expect["same"]}
        twin = load_data(parse_options(options), folder).dataset
        assert twin.digest == dataset.digest
    return 0, "\n".join(f"{name}: {value}" for name, value in dataset.facts.items())
