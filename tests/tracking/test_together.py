"""A grid on devices that train many trials at once; the device of these tests is the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine_cases
import mlflow
import numpy as np
import pytest
import torch
from grid_fixture import tiny_mapping

import mlflow_project.grid as grid_module
import mlflow_project.schedule as schedule_module
from imbalance_lab.engine import Plan
from imbalance_lab.learners.network_learner import NetworkLearner
from imbalance_lab.predictions import read_parquet
from imbalance_lab.run.search import SearchTask, run_search_tasks
from imbalance_lab.run.trial import Trial
from imbalance_lab.run.workspace import Workspace
from imbalance_lab.spec import TrialId, parse_experiment
from mlflow_project.tracking import Store
from mlflow_project.trials import Job, TrackedTrial, run_job

ONE, TWO = Plan(1, 1, devices=("cpu",), apart=True), Plan(2, 1, devices=("cpu", "cpu"), apart=True)
STRATEGIES = ("cross-entropy", "logit-adjusted", "focal")
NAMES = [f"{strategy}-s0" for strategy in STRATEGIES]
MAPPING: dict[str, Any] = tiny_mapping()
SPEC = parse_experiment(
    {
        **MAPPING,
        "strategies": {**MAPPING["strategies"], "focal": {"loss": "focal"}},
        "training": {**MAPPING["training"], "epochs": 3},
    },
    where="e.yaml",
)


class Ran:
    """A grid that was run in a store of its own, without pictures; its workers do ``jobs``."""

    def __init__(self, folder: Path, plan: Plan, jobs: tuple[Any, Any]) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self.experiment = self.client.create_experiment(SPEC.name, artifact_location=(folder / "artifacts").as_uri())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.setenv("IMBALANCE_LAB_WORK", str(folder / "outputs"))
            patch.setattr(grid_module, "plan_for", lambda *arguments: plan)
            patch.setattr(schedule_module, "run_job", jobs[0])
            patch.setattr(schedule_module, "rerun_job", jobs[1])
            patch.setattr("imbalance_lab.plots.style.png_bytes", engine_cases.pixel)
            patch.setattr("imbalance_lab.run.trial.write_analysis", engine_cases.cheap_analysis)
            self.code = grid_module.run_grid_of(SPEC, None)
        mlflow.set_tracking_uri("")

    @property
    def work(self) -> Path:
        (work,) = (self.folder / "outputs").iterdir()
        return work

    def runs(self, role: str) -> dict[str, Any]:
        found = self.client.search_runs([self.experiment])
        return {r.info.run_name: r for r in found if r.data.tags.get("role") == role}

    @property
    def parent(self) -> Any:
        (parent,) = self.runs("grid").values()
        return parent

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        return [(m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, key)]


PLAIN = engine_cases.plain_job, engine_cases.job_again


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The grid, one trial after another."""
    return Ran(tmp_path_factory.mktemp("ordinary"), Plan(1, 1), PLAIN)


def numbers(run: Any) -> dict[str, float]:
    """All final values that are not of the clock."""
    timed = ("time/", "train/seconds", "train/epoch_seconds", "train/steps_per_second")
    return {key: value for key, value in run.data.metrics.items() if not key.startswith(timed)}


def same_grid(ran: Ran, ordinary: Ran) -> None:
    """Everything that was logged is the same, but for the clock."""
    assert ran.code == ordinary.code == 0
    there, here = ordinary.runs("trial"), ran.runs("trial")
    assert sorted(here) == sorted(there) == sorted(NAMES)
    for name, run in here.items():
        assert run.info.status == "FINISHED"
        assert numbers(run) == numbers(there[name])
        assert run.data.params == there[name].data.params
        for key in ("train/loss", "val/command/macro_f1"):
            assert ran.history(run, key) == ordinary.history(there[name], key)
            assert [step for step, _ in ran.history(run, key)] == [1, 2, 3]
        for split in ("val", "test"):
            file = Path("trials", name, "predictions", f"{split}.parquet")
            a, b = read_parquet(ordinary.work / file), read_parquet(ran.work / file)
            for head, one in a.heads.items():
                np.testing.assert_array_equal(one.probabilities, b.heads[head].probabilities)
    assert numbers(ran.parent) == numbers(ordinary.parent)
    assert not list((ran.work / "trained").glob("*.json"))
    assert not list((ran.work / "checkpoints").glob("*"))


def test_a_grid_on_devices_logs_what_the_ordinary_one_logs_though_a_worker_dies(ordinary: Ran, tmp_path: Path) -> None:
    ran = Ran(tmp_path, TWO, (engine_cases.one_dies, engine_cases.job_again))
    same_grid(ran, ordinary)
    assert len(numbers(ran.parent)) >= 1
    spent = mlflow.artifacts.load_dict(f"{ran.parent.info.artifact_uri}/time.json")
    assert 0 < spent["training"] <= spent["trials"] < spent["total"]
    again = set(ran.parent.data.tags["run_again"].split(", "))
    assert NAMES[2] in again <= {NAMES[0], NAMES[2]}  # the second trial of the first device; not that of the other
    assert f"{NAMES[2]} was started 2 times, because its worker died" in ran.parent.data.tags["mlflow.note.content"]


def test_trials_whose_worker_died_twice_are_trained_one_by_one(
    ordinary: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = Ran(tmp_path, ONE, (engine_cases.one_dies, engine_cases.one_dies_again))
    same_grid(ran, ordinary)
    sentence = "workers died twice with many trials at once; 3 trials were trained one by one"
    assert sentence in ran.parent.data.tags["mlflow.note.content"]
    assert sentence in capsys.readouterr().out.splitlines()
    assert f"{NAMES[1]} was started 3 times" in ran.parent.data.tags["mlflow.note.content"]


# ---- a job in this process -----------------------------------------------------------------


def tasks_of(ran: Ran, folder: Path) -> tuple[TrackedTrial, ...]:
    """The trials of the grid as tasks of another parent run; data come from the grid's folder."""
    (folder / "data").symlink_to(ran.work / "data")
    store = Store(ran.uri, ran.experiment, SPEC.name)
    parent = ran.client.create_run(ran.experiment).info.run_id
    plain = SPEC.to_mapping()
    return tuple(TrackedTrial(Trial(TrialId(s, 0), plain, str(folder)), store, parent) for s in STRATEGIES)


def children(ran: Ran, task: TrackedTrial) -> dict[str, Any]:
    """The runs beside a task's, in the order of the names."""
    query = f"tags.`mlflow.parentRunId` = '{task.parent_run_id}'"
    found = {r.info.run_name: r for r in ran.client.search_runs([ran.experiment], filter_string=query)}
    return {name: found[name] for name in NAMES}


def disturbed(patch: pytest.MonkeyPatch, strategy: str, at: int, error: BaseException) -> None:
    """The training of a strategy raises once, when it has taken ``at`` steps."""
    real, raised = NetworkLearner.steps, []

    def steps(self: NetworkLearner, *arguments: Any, **options: Any) -> Any:
        for i, outcome in enumerate(real(self, *arguments, **options)):
            if self.strategy.name == strategy and i == at and not raised:
                raised.append(i)
                raise error
            yield outcome

    patch.setattr(NetworkLearner, "steps", steps)


def test_memory_that_runs_out_is_noted_and_costs_no_trial(
    ordinary: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(ordinary, tmp_path)
    disturbed(monkeypatch, STRATEGIES[1], 2, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    ran = run_job(Job(tasks, hand_over=True))
    assert Workspace(tmp_path).trained() == dict(zip(NAMES, ran.outcomes, strict=True))
    assert Workspace(tmp_path).notes() == [
        "cpu: memory ran out with 3 trials at once, in logit-adjusted-s0; from there on at most 1"
    ]
    expected = ordinary.runs("trial")
    for name, run in children(ordinary, tasks[0]).items():
        assert run.info.status == "RUNNING"
        assert ordinary.history(run, "train/loss") == ordinary.history(expected[name], "train/loss")


@pytest.mark.parametrize("at", [0, 2])
def test_a_trial_that_raises_fails_alone(
    at: int, ordinary: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(ordinary, tmp_path)
    disturbed(monkeypatch, STRATEGIES[1], at, FloatingPointError("lost"))
    ran = run_job(Job(tasks, hand_over=True))
    assert [type(outcome).__name__ for outcome in ran.outcomes] == ["Trained", "TrialFailure", "Trained"]
    runs = children(ordinary, tasks[0])
    assert [run.info.status for run in runs.values()] == ["RUNNING", "FAILED", "RUNNING"]
    assert runs[NAMES[1]].data.tags["failure"] == "FloatingPointError: lost"


def test_an_interrupt_leaves_no_run_open(ordinary: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = tasks_of(ordinary, tmp_path)
    disturbed(monkeypatch, STRATEGIES[2], 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_job(Job(tasks, hand_over=True))
    assert {run.info.status for run in children(ordinary, tasks[0]).values()} == {"KILLED"}


def test_trials_of_a_search_train_together_and_score_as_alone(
    ordinary: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("focal", {"loss.focal.gamma": 0.5}),
        ("focal", {"loss.focal.gamma": 3.0, "training.learning_rate": 0.01}),
        ("cross-entropy", {}),
        ("focal", {"loss.focal.gamma": -7.0}),
        ("logit-adjusted", {}),
    ]
    disturbed(monkeypatch, "logit-adjusted", 1, RuntimeError("no such kernel"))
    work = str(ordinary.work)
    tasks = [SearchTask(SPEC.to_mapping(), name, values, work, 1, "cpu") for name, values in asked]
    together = run_search_tasks(tasks)
    assert [t.values for t in together] == [values for _, values in asked]
    assert list(together[:4]) == [run_search_tasks([task])[0] for task in tasks[:4]]
    assert len({t.score for t in together[:3]}) > 1
    assert [t.score for t in together[3:]] == [None, None]
    assert "gamma" in together[3].pruned
    assert together[4].pruned == "RuntimeError: no such kernel"
