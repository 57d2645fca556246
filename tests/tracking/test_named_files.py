"""Whatever an experiment or a flag names is read before anything is trained: what is wrong with it is one sentence."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from grid_fixture import Grid, tiny_grid  # noqa: F401 - a fixture

from imbalance_lab.simulator.mill import simulate
from imbalance_lab.simulator.mill_options import SimulatedOptions
from imbalance_lab.spec import ExperimentSpec
from imbalance_lab.strategies.language.registry import REGISTRY
from mlflow_project.__main__ import _COMMANDS, main, module_of
from mlflow_project.models import model_of

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

COMMON: dict[str, Any] = {
    "name": "named",
    "audit": {"budget": "off"},
    "interpret": {"budget": "off"},
    "training": {"epochs": 1, "device": "cpu"},
    "seeds": [0],
}

TABLE = {"source": "table", "path": "table.csv", "target": "state", "group": "run", "exclude": ["t"]}
SERIES = {
    "source": "series",
    "path": "table.parquet",
    "recording": "run",
    "order": "t",
    "target": "state",
    "window": {"length": 8, "stride": 8},
}
RECORDINGS = {"source": "recordings", "path": "mill.parquet", "window": {"length": 32, "stride": 32}}
SEQUENCES = {"source": "sequences", "path": "arrays.npz"}


def rows(seed: int, runs: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    t = np.tile(np.arange(24), runs)
    state = np.where(t < 6, 1, 0)
    return pd.DataFrame(
        {
            "run": np.repeat([f"r{seed}_{i}" for i in range(runs)], 24),
            "t": t,
            "a": state + rng.normal(size=len(t)),
            "state": np.array(["idle", "cut"])[state],
        }
    )


def arrays(path: Path, seed: int, tokens: bool = False) -> None:
    rng = np.random.default_rng(seed)
    labels = {"tokens": rng.integers(0, 3, (30, 2))} if tokens else {"mode_targets": rng.integers(0, 2, (30, 1))}
    groups = np.array([f"g{seed}_{i // 3}" for i in range(30)])
    np.savez(path, continuous=rng.normal(size=(30, 4, 2)), groups=groups, **labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole files of every kind."""
    made = tmp_path_factory.mktemp("named")
    for seed, name in enumerate(("table", "test", "val")):
        rows(seed).to_csv(made / f"{name}.csv", index=False)
        rows(seed).to_parquet(made / f"{name}.parquet", index=False)
        arrays(made / f"{'arrays' if name == 'table' else name}.npz", seed)
        mill = simulate(SimulatedOptions(source="simulated", n_recordings=9, seed=seed).mill())
        mill["recording"] = mill["recording"].astype(str) + f"_{seed}"
        mill.to_parquet(made / f"{'mill' if name == 'table' else f'{name}-mill'}.parquet", index=False)
    arrays(made / "tokens.npz", 5, tokens=True)
    return made


@dataclass(frozen=True)
class Named:
    """A key of an experiment that names a file: ``name`` stands there, and ``whole`` is such a file ("": none)."""

    key: str
    name: str
    whole: str
    data: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def experiment(self) -> dict[str, Any]:
        """The experiment, without its strategies."""
        return {"data": self.data, **self.more}


def at(data: dict[str, Any], name: str, whole: str) -> Named:
    return Named("data.path", name, whole, {**data, "path": name})


def side(data: dict[str, Any], name: str, whole: str, **split: str) -> Named:
    (key,) = (key for key, value in split.items() if value == name)
    return Named(f"data.split.{key}", name, whole, {**data, "split": split})


def vocabulary(data: dict[str, Any]) -> Named:
    return Named("data.vocabulary", "named.json", "", {**data, "task": "tokens", "vocabulary": "named.json"})


COSTS = {"costs": {"state": "named.csv"}}
FILES = [
    at(TABLE, "named.csv", "table.csv"),
    at(TABLE, "named.parquet", "table.parquet"),
    at(SERIES, "named.csv", "table.csv"),
    at(SERIES, "named.parquet", "table.parquet"),
    at(RECORDINGS, "named.parquet", "mill.parquet"),
    at(SEQUENCES, "named.npz", "arrays.npz"),
    at(SEQUENCES, "named.pt", "arrays.npz"),
    side(TABLE, "named.csv", "test.csv", test="named.csv"),
    side(TABLE, "named.csv", "val.csv", test="test.csv", val="named.csv"),
    side(SERIES, "named.parquet", "test.parquet", test="named.parquet"),
    side(RECORDINGS, "named.parquet", "test-mill.parquet", test="named.parquet"),
    side(SEQUENCES, "named.npz", "test.npz", test="named.npz"),
    side(SEQUENCES, "named.npz", "val.npz", test="test.npz", val="named.npz"),
    vocabulary(RECORDINGS),
    vocabulary({"source": "simulated", "n_recordings": 9}),
    Named(
        "data.vocabulary", "named.json", "", {"source": "sequences", "path": "tokens.npz", "vocabulary": "named.json"}
    ),
    Named("costs.state", "named.csv", "", TABLE, COSTS),
    Named("costs.command", "named.csv", "", RECORDINGS, {"costs": {"command": "named.csv"}}),
    Named("audit.pilot", "named.json", "", TABLE, {"audit": {"budget": "off", "pilot": "named.json"}}),
]


@pytest.fixture
def told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command that has to be refused before there is a run, in a store of its own; what it says."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def refused(*command: str) -> str:
        said = refusal(capsys, *command)
        assert not (tmp_path / "mlflow.db").exists()
        assert not list((tmp_path / "outputs").glob("*"))
        return said

    return refused


def refusal(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one sentence with which a command is refused."""
    capsys.readouterr()
    code = main(list(command))
    err = capsys.readouterr().err
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert err.startswith("imbalance-lab: ")
    return err


def written(tmp_path: Path, **experiment: Any) -> str:
    path = tmp_path / "experiment.yaml"
    strategies = {"strategies": {"cross-entropy": {}}}
    path.write_text(yaml.safe_dump({**COMMON, **strategies, **experiment}), encoding="utf-8")
    return str(path)


def damaged(path: Path, damage: str, whole: bytes) -> None:
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "garbage":
            path.write_bytes(b"\x89\x00\xff\xfe garbage \x00" * 40)
        case "cut":
            quote = b',"' if path.suffix == ".csv" else b""  # a cut within plain numbers cannot be seen
            path.write_bytes(whole[: len(whole) * 2 // 3] + quote)


@pytest.mark.parametrize("damage", ["missing", "empty", "folder", "garbage", "cut"])
@pytest.mark.parametrize("named", FILES, ids=lambda n: f"{n.data['source']}-{n.key}-{n.name}")
def test_a_file_of_an_experiment(
    named: Named, damage: str, told: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    path = folder / named.name
    whole = (folder / named.whole).read_bytes() if named.whole else b'{"vocab": {"a":'
    try:
        damaged(path, damage, whole)
        said = told("run", "--experiment", written(tmp_path, **named.experiment))
    finally:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    assert named.name in said


@pytest.mark.parametrize("command", ["audit", "train"])
@pytest.mark.parametrize("named", [FILES[0], FILES[7], FILES[13], FILES[-2]], ids=lambda n: n.key)
def test_by_every_command(named: Named, command: str, told: Callable[..., str], tmp_path: Path) -> None:
    assert named.name in told(command, "--experiment", written(tmp_path, **named.experiment))


@pytest.mark.parametrize(
    ("experiment", "flags", "words"),
    [
        ({"model": {"factory": "nowhere.net:build"}}, [], "model.factory: found 'nowhere.net:build'"),
        ({"model": {"factory": "broken_net:build"}}, [], "broken_net.py, line 1: not Python"),
        ({"model": {"factory": "raising_net:build"}}, [], "raising_net:build', which does not import"),
        ({"model": {"factory": "raising_net:other"}}, [], "raising_net:other"),
        ({"strategies": {"a": {"table": {"estimator": "nowhere.est:C"}}}, "baseline": "a"}, [], "'nowhere.est:C'"),
        ({"strategies": {"a": {"table": {"estimator": "sklearn.svm:None_"}}}, "baseline": "a"}, [], "'None_'"),
        ({"strategies": {"a": {"table": {"estimator": "raising_net:C"}}}, "baseline": "a"}, [], "'raising_net:C'"),
        ({"tune": {"trials": 2}}, [], "tune: found a search, but Optuna is not installed"),
        ({"strategies": {"cross-entropy": {"tune": {"trials": 2}}}}, [], "Optuna is not installed"),
        ({}, ["--engine", "dask"], "engine: found 'dask', but distributed is not installed"),
        ({}, ["--engine", "ray"], "engine: found 'ray', but ray is not installed"),
        ({}, ["--engine", "local", "--cluster", "tcp://127.0.0.1:9"], "'tcp://127.0.0.1:9'"),
        ({}, ["--data", "none.csv"], "none.csv does not exist"),
        ({}, ["--data", "s3://nowhere/none.csv"], "--data: 's3://nowhere/none.csv' cannot be fetched"),
        ({"training": {"epochs": 1, "device": "cuda:77"}}, [], "device: found 'cuda:77'"),
        ({"selection": {"metric": "none/macro_f1"}}, [], "selection.metric: found head 'none'"),
        ({"costs": {"none": "table.csv"}}, [], "costs: found head 'none'"),
    ],
)
def test_a_module_a_package_or_an_address(
    experiment: dict[str, Any],
    flags: list[str],
    words: str,
    told: Callable[..., str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("optuna", "distributed", "ray"):  # as where they are not installed
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.syspath_prepend(str(folder))
    (folder / "broken_net.py").write_text("def build(:\n")
    (folder / "raising_net.py").write_text("raise OSError('no licence')\n")
    assert words in told("run", "--experiment", written(tmp_path, data=TABLE, **experiment), *flags)


def test_an_experiment_that_is_not_there_or_no_text(told: Callable[..., str], tmp_path: Path) -> None:
    assert "none.yaml: no such experiment file" in told("run", "--experiment", "none.yaml")
    for damage in ("empty", "garbage", "folder"):
        path = tmp_path / f"{damage}.yaml"
        damaged(path, damage, b"")
        assert path.name in told("run", "--experiment", str(path))
    assert "--experiment: 's3://none/x.yaml' cannot be fetched" in told("run", "--experiment", "s3://none/x.yaml")


def test_a_store_or_a_work_folder_that_cannot_be_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "outputs"))
    command = ("run", "--experiment", written(tmp_path, data=TABLE))
    damaged(tmp_path / "mlflow.db", "garbage", b"")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert "mlflow.db" in refusal(capsys, *command)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "experiment.yaml"))
    assert "experiment.yaml" in refusal(capsys, *command)
    assert not (tmp_path / "other.db").exists()


@pytest.fixture
def grid(tiny_grid: Grid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Grid]:  # noqa: F811
    """The shared grid; its runs have to be afterwards what they were."""
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(tracking_uri=tiny_grid.uri)

    def runs() -> dict[str, str]:
        places = [found.experiment_id for found in client.search_experiments()]
        return {run.info.run_id: run.info.status for run in client.search_runs(places)}

    before = runs()
    yield tiny_grid
    assert runs() == before


def called(grid: Grid, command: list[str]) -> list[str]:
    """The command with the ids of the grid's runs."""
    for name, run_id in (("PARENT", grid.parent), ("CHILD", grid.children["cross-entropy"])):
        command = [part.replace(name, run_id) for part in command]
    return command


NAMING = {
    *("--experiment", "--data", "--resume", "--run_id", "--run_ids", "--predictions", "--model", "--costs"),
    *("--parent_run_id", "--experiment_name", "--engine", "--cluster"),
    *("data.path", "data.split.test", "data.split.val", "data.vocabulary", "costs", "model.factory", "audit.pilot"),
    *("table.estimator.path", "table.estimator.trust"),
}
"""Flags, and keys of text, that name a file, a module, a package, a run or an address: the tests of this module."""

PLAIN = {
    *("--strategies", "--strategy", "--seeds", "--seed", "--folds", "--fold", "--epochs", "--device", "--on_fail"),
    *("--jobs", "--force", "--quiet", "--allow_missing", "--budget", "--filter", "--baseline", "--metric", "--margin"),
    *("--model_name", "--alias", "--slot"),
    *("name", "description", "baseline", "strategies", "training.device", "selection.metric"),
    *("model.options", "model.sources"),  # of the factory's; its text, which is read with the file
    *("data.operation", "data.operations", "data.exclude", "data.include", "data.split.column", "data.channel_groups"),
    *("data.target", "data.group", "data.categorical", "data.timestamps", "data.missing", "data.decimal"),
    *("data.thousands", "data.separator", "data.encoding", "data.recording", "data.order", "data.slices"),
    *("data.faults", "sampler.head", "sampler.target", "weights.explicit", "schedule.resample"),
    *("table.estimator.options", "table.estimator.resample"),
}


def keys_of_text(model: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a section that take any text, and so might name something."""
    for name, about in model.model_fields.items():
        parts = [part for part in (about.annotation, *get_args(about.annotation)) if hasattr(part, "model_fields")]
        for part in parts:
            yield from keys_of_text(part, f"{prefix}{name}.")
        if not parts and re.search(r"\bstr\b|Path", str(about.annotation)):
            yield prefix + name


def test_whatever_may_name_something_is_known_here() -> None:
    """A key or flag that is new has to be put into one of the two sets, and with the first into a test."""
    flags = set()
    for command in _COMMANDS:
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(module_of(command)).add_arguments(parser)
        flags |= {flag for action in parser._actions for flag in action.option_strings}
    keys = {key for key in keys_of_text(ExperimentSpec) if not key.startswith("strategies.")} | {"strategies"}
    for entry in REGISTRY:
        short = {"sampler": "sampler", "weights": "weights", "schedule": "schedule"}
        keys |= set(keys_of_text(entry.options, f"{short.get(entry.slot, f'{entry.slot}.{entry.name}')}."))
    assert sorted((flags | keys) ^ (NAMING | PLAIN)) == []


NONE = "f" * 32


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run", "--resume", NONE], "--resume: no run"),
        (["analyze", "--run_id", NONE], "--run_id: no run"),
        (["analyze", "--predictions", "none.parquet"], "none.parquet"),
        (["analyze", "--predictions", "garbage.parquet"], "garbage.parquet"),
        (["analyze", "--predictions", "."], "."),
        (["interpret", "--run_id", NONE], "--run_id: no run"),
        (["interpret", "--run_id", "PARENT"], "holds no model: it trained none"),
        (["evaluate", "--model", f"runs:/{NONE}", "--data", "x"], "--model: no run"),
        (["evaluate", "--model", "models:/none/1", "--data", "x"], "--model: no model 'models:/none/1'"),
        (["evaluate", "--model", "runs:/PARENT", "--data", "x"], "holds no model: it trained none"),
        (["compare", "--run_ids", NONE], "--run_ids: no run"),
        (["compare", "--experiment_name", "none"], "--experiment_name: no experiment 'none'"),
        (["compare", "--run_ids", "PARENT", "--costs", "none.csv"], "none.csv: no such file"),
        (["compare", "--run_ids", "PARENT", "--costs", "garbage.parquet"], "garbage.parquet: not a readable UTF-8"),
        (["promote", "--parent_run_id", NONE], "--parent_run_id: no run"),
        (["promote", "--parent_run_id", "CHILD"], "holds no comparison"),
        (["promote", "--parent_run_id", "PARENT", "--strategy", "none"], "--strategy: found 'none'"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_run_a_model_or_a_table(
    grid: Grid, command: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(tmp_path / "garbage.parquet", "garbage", b"")
    assert words in refusal(capsys, *called(grid, command))


@pytest.mark.parametrize(
    ("file", "commands"),
    [
        ("PARENT/spec.yaml", [["run", "--resume", "PARENT"]]),
        ("PARENT/verdict.json", [["promote", "--parent_run_id", "PARENT"]]),
        ("PARENT/tables/runs.json", [["promote", "--parent_run_id", "PARENT"]]),
        ("CHILD/spec.yaml", [["evaluate", "--model", "runs:/CHILD", "--data", "x"]]),
        ("CHILD/predictions/test.parquet", [["analyze", "--run_id", "CHILD"], ["compare", "--run_ids", "PARENT"]]),
        ("CHILD/network/about.json", [["interpret", "--run_id", "CHILD"]]),
        ("CHILD/network/weights.pt", [["interpret", "--run_id", "CHILD"]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("damage", ["empty", "garbage", "cut"])
def test_a_damaged_file_of_a_run(
    grid: Grid, file: str, commands: list[list[str]], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient(tracking_uri=grid.uri)
    run_id, _, inner = called(grid, [file])[0].partition("/")
    run = client.get_run(run_id)
    model = inner.startswith("network/")
    root = f"{model_of(client, run).artifact_location}/artifacts" if model else run.info.artifact_uri
    path = Path(str(root).removeprefix("file://")) / inner
    if (file, damage) == ("CHILD/spec.yaml", "cut"):
        pytest.skip("half a YAML file may be a whole one")
    kept = path.read_bytes()
    try:
        damaged(path, damage, kept)
        for command in commands:
            said = refusal(capsys, *called(grid, command))
            assert run_id in said or path.name in said
    finally:
        path.write_bytes(kept)


def without_page(whole: bytes, column: str) -> bytes:
    """A Parquet file with zeros for a column of its first row group."""
    group = pq.ParquetFile(BytesIO(whole)).metadata.row_group(0)
    (chunk,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    end = chunk.data_page_offset + chunk.total_compressed_size
    return whole[: chunk.data_page_offset] + bytes(chunk.total_compressed_size) + whole[end:]


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "cut", "changed"])
@pytest.mark.parametrize(
    "file", ["data/about.json", "data/continuous.npy", "results/*.json", "trials/*/predictions/test.parquet"]
)
def test_a_damaged_file_of_a_grid_that_is_resumed(
    grid: Grid, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted(grid.work.glob(file))[0]
    kept = path.read_bytes()
    if (damage == "missing" and "results" in file) or (damage == "changed" and file.endswith("json")):
        pytest.skip("a trial without a result is trained again" if damage == "missing" else "text has no such bits")
    try:
        path.unlink()
        damaged(path, damage, kept)
        if damage == "changed" and path.suffix == ".parquet":  # a page, which is met when it is read
            path.write_bytes(without_page(kept, "probabilities.list.element"))
        elif damage == "changed":
            path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        said = refusal(capsys, "run", "--resume", grid.parent)
    finally:
        path.write_bytes(kept)
    assert str(grid.work.name) in said
