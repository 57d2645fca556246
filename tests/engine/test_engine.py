"""The map over a grid: plans, engines, workers that die, and the search that uses it."""

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import engine_cases
import pytest
import torch
from engine_cases import searched
from hypothesis import given, settings
from hypothesis import strategies as st

import imbalance_lab.run.search as tuning
from imbalance_lab.engine import Ended, Engine, Failure, Plan, cores, open_engine, plan_beside, plan_for
from imbalance_lab.errors import InputError
from imbalance_lab.run.search import SearchTask, Tried, judge
from imbalance_lab.run.workspace import Workspace
from imbalance_lab.spec import ExperimentSpec, parse_experiment
from imbalance_lab.training.training_config import resolve_gpus

ROOT = Path(__file__).resolve().parents[2]


@settings(deadline=None, max_examples=50)
@given(
    jobs=st.one_of(st.none(), st.integers(1, 64)), trials=st.integers(1, 200), engine=st.sampled_from(["local", "dask"])
)
def test_a_plan_never_uses_more_cores_than_there_are(jobs: int | None, trials: int, engine: str) -> None:
    if engine == "dask":
        pytest.importorskip("distributed")
    plan = plan_for(jobs, trials, (), engine)
    assert 1 <= plan.jobs <= trials
    if jobs is not None:
        assert plan.jobs == min(jobs, trials)


@pytest.mark.parametrize(("given_", "threads"), [(None, 1), ("", 1), ("3", 3), ("2,1", 2)])
def test_threads_of_a_worker_depend_on_the_environment_alone(
    given_: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbalance_lab.engine.cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given_ is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given_)
    assert {plan_for(jobs, trials).threads for jobs in (None, 1, 2, 5, 16) for trials in (1, 3, 40)} == {threads}


@pytest.mark.parametrize("given_", ["0", "all", "-1", "²"])
def test_a_number_of_threads_that_is_none_is_refused(given_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given_)
    with pytest.raises(InputError, match="OMP_NUM_THREADS: found"):
        plan_for(1, 1)


@settings(deadline=None, max_examples=50)
@given(jobs=st.one_of(st.none(), st.integers(1, 64)), trials=st.integers(1, 200), n=st.integers(1, 8))
def test_a_plan_has_a_process_for_each_gpu_that_has_work(jobs: int | None, trials: int, n: int) -> None:
    gpus = tuple(f"cuda:{i}" for i in range(n))
    plan = plan_for(jobs, trials, gpus)
    assert plan.devices == gpus[: plan.jobs]
    assert plan.jobs == min(n, trials, jobs or n)
    assert plan.apart
    if jobs is None:
        assert plan.together is None
    else:
        assert plan.together is not None
        assert jobs <= plan.jobs * plan.together < jobs + plan.jobs
    beside = plan_beside(plan)
    assert (beside.jobs, beside.threads, beside.devices) == (max(1, cores() - plan.jobs), 1, ())


def test_a_cluster_decides_how_many_trials_run_at_once() -> None:
    pytest.importorskip("distributed")
    assert plan_for(None, 9, (), "dask", "tcp://10.0.0.1:8786") == Plan(0, 1, "dask", "tcp://10.0.0.1:8786")
    assert plan_for(4, 2, ("cuda:0",), "dask", "tcp://10.0.0.1:8786").jobs == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spark", ""), "engine: found 'spark'; allowed are local, dask, ray"),
        (("local", "tcp://h:1"), "cluster: found 'tcp://h:1' with engine local"),
        (("dask", "ray://h:1"), "allowed with engine dask are tcp://host:port"),
        (("dask", "h:1"), "allowed with engine dask are tcp://host:port"),
        (("ray", "tcp://h:1"), "allowed with engine ray are ray://host:port, host:port or auto"),
    ],
)
def test_wrong_engines_and_addresses_are_named(arguments: tuple[str, str], message: str) -> None:
    if arguments[0] in ("dask", "ray"):
        pytest.importorskip({"dask": "distributed", "ray": "ray"}[arguments[0]])
    with pytest.raises(InputError, match=message):
        plan_for(2, 2, (), *arguments)


@pytest.mark.parametrize(("engine", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named(engine: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'imbalance-lab\[{engine}\]'"):
        plan_for(2, 2, (), engine)


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refused(*_: object, **__: object) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", refused)
    with (
        pytest.raises(InputError, match=r"cluster: tcp://127\.0\.0\.1:9 does not answer \(Timed out"),
        open_engine(Plan(0, 1, "dask", "tcp://127.0.0.1:9")),
    ):
        pass


def test_the_local_engine_imports_no_cluster_package() -> None:
    program = (
        "import sys\nfrom imbalance_lab.engine import open_engine, plan_for\n"
        "with open_engine(plan_for(1, 2)) as engine:\n"
        "    assert [(e.index, e.outcome) for e in engine.map(abs, [-1, 2])] == [(0, 1), (1, 2)]\n"
        "print(sorted({'torch', 'distributed', 'dask', 'ray', 'sklearn', 'mlflow'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]"


def check_deaths(engine: Engine, folder: Path) -> None:
    """Eight tasks; two of them kill their workers, one raises, all others are not touched by that."""
    tasks = [(i, str(folder)) for i in range(8)]
    ended = list(
        engine.map(
            engine_cases.square_or_die, tasks, again=engine_cases.square_again, journal=folder / "work" / "starts"
        )
    )
    assert sorted(e.index for e in ended) == list(range(8))
    found = {e.index: e for e in ended}
    for i in (0, 1, 3, 6, 7):
        assert found[i] == Ended(i, i**2)
    assert found[2] == Ended(2, ("again", 4), starts=2)
    assert found[4].outcome == Failure(4, "its worker was killed 2 times")
    assert found[5].outcome == Failure(5, "ValueError: five")


def test_a_killed_worker_loses_only_its_task(tmp_path: Path) -> None:
    with open_engine(Plan(2, 1)) as engine:
        check_deaths(engine, tmp_path)
        # Neighbours of a dying worker are not started anew, and the engine still works.
        again = {e.index: e for e in engine.map(engine_cases.square_or_die, [(i, str(tmp_path)) for i in (0, 1, 2, 3)])}
        assert again == {i: Ended(i, (0, 1, 4, 9)[i]) for i in range(4)}


def test_results_arrive_while_others_run(tmp_path: Path) -> None:
    begun = time.monotonic()
    with open_engine(Plan(2, 1)) as engine:
        list(engine.map(abs, [1, 2]))  # the workers are up
        begun = time.monotonic()
        arrived = [
            (e.index, time.monotonic() - begun)
            for e in engine.map(engine_cases.slow, [(3.0, str(tmp_path)), *[(0.05, str(tmp_path))] * 6])
        ]
    assert [i for i, _ in arrived][-1] == 0
    assert all(seconds < 3.0 for _, seconds in arrived[:-1])
    assert all(a <= b for (_, a), (_, b) in pairwise(arrived))


def test_workers_stop_with_the_engine_and_read_their_share_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with open_engine(Plan(2, 3)) as engine:
        assert [e.outcome for e in engine.map(engine_cases.variable, ["OMP_NUM_THREADS"] * 3)] == ["3"] * 3
        pids = {e.outcome for e in engine.map(engine_cases.slow, [(0.3, str(tmp_path))] * 2)}
    assert len(pids) == 2
    assert not any(_alive(pid) for pid in pids)


@pytest.mark.parametrize("gpu", [True, False])
def test_only_workers_with_a_gpu_see_one(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with open_engine(Plan(1, 1, gpu=gpu, apart=True)) as engine:
        (ended,) = engine.map(engine_cases.variable, ["CUDA_VISIBLE_DEVICES"])
    assert ended.outcome == ("0,1" if gpu else "")


@pytest.mark.parametrize(
    ("name", "count", "gpus"),
    [
        ("cuda", 2, ("cuda:0", "cuda:1")),
        ("auto", 2, ("cuda:0", "cuda:1")),
        ("cuda:1", 2, ("cuda:1",)),
        ("cpu", 2, ()),
        ("auto", 0, ()),
    ],
)
def test_cuda_is_all_visible_gpus(
    name: str, count: int, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert resolve_gpus(name) == gpus


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "device: found 'cuda', but this machine has no CUDA device; allowed are auto, cpu"),
        ("cuda:2", 2, r"found 'cuda:2', but .* has 2 CUDA device\(s\); allowed are auto, cpu, cuda, cuda:0, cuda:1"),
    ],
)
def test_a_gpu_that_is_not_there_is_one_sentence(
    name: str, count: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=f"{message}$"):
        resolve_gpus(name)


def interrupted_after_the_first(folder: Path) -> None:
    """A map over tasks of a minute, left as Ctrl-C leaves it."""
    tasks = [(0.1, str(folder)), *[(60.0, str(folder))] * 5]
    with open_engine(Plan(2, 1)) as engine, contextlib.closing(engine.map(engine_cases.slow, tasks)) as ended:
        next(ended)
        raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:.*tasks which were still being processed:UserWarning")  # joblib says so
def test_leaving_early_stops_the_workers(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted_after_the_first(tmp_path)
    assert time.monotonic() - begun < 45
    pids = [int(p.name.partition("-")[2]) for p in tmp_path.glob("pid-*")]
    assert pids
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_a_worker_without_the_grids_folder_says_so(tmp_path: Path) -> None:
    journal = tmp_path / "starts"

    def gone(call: Any) -> Ended[Any]:
        return engine.send(replace(call, journal=str(tmp_path / "elsewhere")))

    with open_engine(Plan(1, 1)) as engine:
        (ended,) = Engine(1, gone).map(abs, [-1], journal=journal)
    assert isinstance(ended.outcome, Failure)
    assert "elsewhere; the grid's folder (IMBALANCE_LAB_WORK) must lie on a file system" in ended.outcome.reason


# ---- the search ----------------------------------------------------------------------------


def experiment(**changes: Any) -> ExperimentSpec:
    raw = {
        "name": "x",
        "data": {"source": "simulated"},
        "baseline": "cross-entropy",
        "strategies": {"cross-entropy": {}, "focal": {"loss": {"focal": {"gamma": 2}}}},
        **changes,
    }
    return parse_experiment(raw, where="test")


def distance(tried: ExperimentSpec) -> float:
    return 1.0 - abs(tried.strategies["focal"].loss.options.gamma - 0.7)


def test_a_search_in_batches_is_the_same_each_time_and_finds_better_values() -> None:
    pytest.importorskip("optuna")
    one, four = (searched(experiment(), "focal", distance, 24, batch) for batch in (1, 4))
    assert four == searched(experiment(), "focal", distance, 24, 4, backwards=True)
    assert len(four.tried) == 24
    assert four.tried[0].values == {}
    # The sampler's random start does not depend on the batch: the experiment as written and ten random trials.
    assert four.tried[:11] == one.tried[:11]
    assert four.tried != one.tried
    for found in (one, four):
        assert abs(found.chosen["loss.focal.gamma"] - 0.7) < 0.2


def search_grid(
    work: Workspace, jobs: int, monkeypatch: pytest.MonkeyPatch, stop_after: int = 10**9
) -> list[SearchTask]:
    """The searches of two strategies, judged without training; interrupted after some trials. What was tried now."""
    tried: list[SearchTask] = []

    def run(tasks: Sequence[SearchTask], together: int | None) -> tuple[Tried, ...]:
        (task,) = tasks
        if len(tried) == stop_after:
            raise KeyboardInterrupt
        tried.append(task)
        spec = parse_experiment(task.spec, where="test")
        if task.strategy == "hopeless":
            raise RuntimeError("no such thing")
        return (judge(spec, task.strategy, task.values, lambda t: -abs(math.log(t.training.learning_rate) + 7.5)),)

    monkeypatch.setattr(tuning, "run_search_tasks", run)
    spec = experiment(tune={"trials": 13}, strategies={"cross-entropy": {}, "hopeless": {}, "focal": {"loss": "focal"}})
    with open_engine(Plan(1, 1)) as engine, contextlib.suppress(KeyboardInterrupt):
        tuning.search_all(spec, spec.strategies, work, Engine(jobs, engine.send), Plan(jobs, 1))
    return tried


def test_searches_of_a_grid_are_done_once_each_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    whole, cut = Workspace(tmp_path / "whole"), Workspace(tmp_path / "cut")
    assert len(search_grid(whole, 1, monkeypatch)) == 3 * 13
    assert search_grid(whole, 1, monkeypatch) == []
    before = search_grid(cut, 1, monkeypatch, stop_after=20)
    assert len(before) == 20
    assert tuning.tuning_of(cut, "focal") is None
    after = search_grid(cut, 7, monkeypatch)  # more jobs now; the batches stay as they were
    assert len(after) == 3 * 13 - 20 // 3 * 3
    for strategy in ("cross-entropy", "focal"):
        found = tuning.tuning_of(cut, strategy)
        assert found is not None
        assert found == tuning.tuning_of(whole, strategy)
        assert found.score == max(t.score for t in found.tried if t.score is not None)
    with pytest.raises(InputError, match="'hopeless', key tune: none of 13 trials could be trained; RuntimeError"):
        tuning.tuning_of(cut, "hopeless")


def test_a_search_is_made_in_every_fold_with_draws_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    tried: list[SearchTask] = []

    def run(tasks: Sequence[SearchTask], together: int | None) -> tuple[Tried, ...]:
        tried.extend(tasks)
        return tuple(Tried(task.values, float(task.fold or 0)) for task in tasks)

    monkeypatch.setattr(tuning, "run_search_tasks", run)
    data = {"source": "simulated", "split": {"folds": 3}}
    spec, work = experiment(tune={"trials": 4}, data=data), Workspace(tmp_path)
    wanted = {(name, fold): 4 for name in spec.strategies for fold in range(3)}
    assert tuning.searches_left(spec, spec.strategies, work) == wanted
    with open_engine(Plan(1, 1)) as engine:
        tuning.search_all(spec, ["focal"], work, engine, Plan(1, 1), folds=[1])
        assert {task.fold for task in tried} == {1}
        tuning.search_all(spec, ["focal"], work, engine, Plan(1, 1))
    values = {fold: [t.values for t in tried if t.fold == fold] for fold in range(3)}
    assert all(len(own) == 4 for own in values.values())
    assert values[0][1:] != values[1][1:]
    found = [tuning.tuning_of(work, "focal", fold) for fold in range(3)]
    assert [one.score for one in found if one is not None] == [0.0, 1.0, 2.0]
    assert tuning.tuning_of(work, "focal") is None


def test_a_search_on_devices_asks_for_what_they_train_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    jobs: list[tuple[str, int]] = []

    def run(tasks: Sequence[SearchTask], together: int | None) -> tuple[Tried, ...]:
        jobs.append((tasks[0].device, len(tasks)))
        assert together == 3
        if tasks[0].device == "cuda:1":
            raise RuntimeError("lost")
        return tuple(Tried(task.values, 0.5) for task in tasks)

    monkeypatch.setattr(tuning, "run_search_tasks", run)
    spec = experiment(tune={"trials": 8})
    plan = Plan(1, 1, devices=("cuda:0", "cuda:1"), together=3)
    with open_engine(Plan(1, 1)) as engine:
        tuning.search_all(spec, ["focal"], Workspace(tmp_path), engine, plan)
    assert jobs == [("cuda:0", 3), ("cuda:1", 3), ("cuda:0", 1), ("cuda:1", 1)]
    found = tuning.tuning_of(Workspace(tmp_path), "focal")
    assert found is not None
    assert [t.pruned for t in found.tried] == ["", "RuntimeError: lost"] * 4
