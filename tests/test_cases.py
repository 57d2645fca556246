"""Small inputs that once went wrong: one folder of ``tests/cases`` each, with what is right in its ``case.yaml``.

``case.yaml`` has the keys:

- ``command``: ``load`` (only read the data), or a command of ``python -m mlflow_project`` with its options, as a list;
- ``experiment``: what differs from :data:`_BASE`; ``data.path`` is relative to the folder;
- ``expect``: ``exit`` (default 0), ``words`` and ``no_words`` of everything printed; for ``load`` also ``classes``,
  ``channels``, ``categorical`` (names), ``facts`` (name to a part of the text) and ``same`` (a file of the same data,
  which has an equal digest).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from imbalance_lab.data.load import load_data
from imbalance_lab.data.options import parse_options
from imbalance_lab.errors import InputError
from mlflow_project.__main__ import main

CASES = Path(__file__).parent / "cases"
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


def _experiment(case: dict[str, Any]) -> dict[str, Any]:
    changes = case.get("experiment", {})
    return {**_BASE, **changes, "data": {**_BASE["data"], **changes.get("data", {})}}


@pytest.mark.parametrize("folder", sorted(p.parent for p in CASES.glob("*/case.yaml")), ids=lambda p: p.name)
def test_case(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    experiment, expect = _experiment(case), case["expect"]
    if case["command"] == "load":
        code, said = _load(folder, experiment["data"], expect)
    else:
        experiment["data"] = {**experiment["data"], "path": str(folder / experiment["data"]["path"])}
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.chdir(tmp_path)
        command, *options = case["command"]
        code = main([command, "--experiment", str(file), *options])
        captured = capsys.readouterr()
        said = captured.out + captured.err
    assert code == expect.get("exit", 0), said
    for word in expect.get("words", []):
        assert word in said
    for word in expect.get("no_words", []):
        assert word not in said


def _load(folder: Path, data: dict[str, Any], expect: dict[str, Any]) -> tuple[int, str]:
    try:
        dataset = load_data(parse_options(data), folder).dataset
    except InputError as error:
        return 2, str(error)
    if "classes" in expect:
        assert list(next(iter(dataset.heads.values()))) == expect["classes"]
    if "channels" in expect:
        assert list(dataset.channels) == expect["channels"]
    if "categorical" in expect:
        assert list(dataset.categorical_channels) == expect["categorical"]
    for name, part in expect.get("facts", {}).items():
        assert part in str(dataset.facts.get(name)), dataset.facts
    if "same" in expect:
        twin = load_data(parse_options({**data, "path": expect["same"]}), folder).dataset
        assert twin.digest == dataset.digest
    return 0, "\n".join(f"{name}: {value}" for name, value in dataset.facts.items())
