"""What grows with the number of trials, and what with the number of positions?

Command   python benchmarks/scale.py [--size tiny|default|full] [--json FILE]
Duration  one to three minutes at the default size on 2 cores; full: ten
Result    per engine the seconds until workers answer and the overhead of 10, 100, 1000 trials that do nothing; the
          seconds that MLflow takes per trial as the store fills; counting positions in shards and merging the
           counts; comparing 10 ... 300 runs; mapping a cached data set; a model of series on new data (``evaluate``:
           reading, predicting, the whole error analysis, what changed); binding a strategy to targets of one's own
           loop; each with its slope (exponent of a power law); loading recordings and a series of 50 channels, with
           the peak in multiples of their float32 table; the same as a grid does it, which writes its cache and maps it
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import ROOT, CaseError, Outcome, Row, fresh, memory_mib, run, slope, timed

sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(ROOT / "benchmarks")]

from imbalance_lab.errors import InputError  # noqa: E402

TRIALS = {"tiny": (10,), "default": (10, 100, 1000), "full": (10, 100, 1000, 10_000)}
LOGGED = {"tiny": (5,), "default": (10, 100), "full": (10, 100, 1000)}
POSITIONS = {"tiny": (10_000,), "default": (10**5, 10**6, 10**7), "full": (10**5, 10**6, 10**7, 10**8)}
EVALUATED = {"tiny": (5_000,), "default": (10**4, 10**5, 10**6), "full": (10**4, 10**5, 10**6)}
BOUND = ("focal", "class-balanced", "token-balanced")
RUNS = {"tiny": (4,), "default": (10, 30, 100, 300), "full": (10, 30, 100, 300, 1000)}
ROWS = {"tiny": (10_000,), "default": (10**5, 10**6), "full": (10**5, 10**6, 10**7)}
CHANNELS = 50
SHARDS = 8
EPOCHS, KEYS = 30, 30  # what a trial of the G-code experiments logs: about 30 numbers in each of 30 epochs


def nothing(task: int) -> int:
    return task


def _engine(engine: str, jobs: int, trials: int) -> Callable[[], Any]:
    from imbalance_lab.engine import Plan, open_engine

    def call() -> dict[str, float]:
        begun = time.perf_counter()
        with open_engine(Plan(jobs, 1, engine)) as opened:
            list(opened.map(nothing, range(jobs)))
            up = time.perf_counter()
            ended = sum(1 for e in opened.map(nothing, range(trials)) if e.outcome == e.index)
            done = time.perf_counter()
        if ended != trials:
            raise CaseError(f"{ended} of {trials} tasks came back as they should")
        return {"start_s": up - begun, "map_s": done - up, "stop_s": time.perf_counter() - done}

    return call


def _tracking(trials: int) -> Callable[[], Any]:
    from imbalance_lab.run.terminal import quiet
    from mlflow_project.tracking import Store, children, start_child

    quiet()
    import mlflow

    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-"))
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    store = Store(uri, client.create_experiment("scale", artifact_location=(folder / "artifacts").as_uri()), "scale")
    parent = client.create_run(store.experiment_id).info.run_id

    def call() -> dict[str, float]:
        seconds = []
        for trial in range(trials):
            begun = time.perf_counter()
            logger = start_child(store, parent, f"strategy-s{trial}", {"strategy": "strategy", "seed": str(trial)})
            logger.params({f"spec.{i}": i for i in range(40)})
            for epoch in range(1, EPOCHS + 1):
                logger.metrics({f"val/command/metric {i}": 0.5 for i in range(KEYS)}, step=epoch)
                logger.flush_in_time()
            logger.finish("FINISHED")
            seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        assert len(children(store, parent)) == trials
        tenth = max(1, trials // 10)
        return {
            "s_per_trial": sum(seconds) / trials,
            "first_tenth_s": float(np.median(seconds[:tenth])),
            "last_tenth_s": float(np.median(seconds[-tenth:])),
            "list_children_s": time.perf_counter() - begun,
            "database_mib": (folder / "mlflow.db").stat().st_size / 2**20,
        }

    return call


def _rows(head: Any, part: slice) -> Any:
    """Some positions of a head."""
    columns = {
        f.name: value[part]
        for f in fields(head)
        if isinstance(value := getattr(head, f.name), np.ndarray) and len(value) == len(head)
    }
    return replace(head, **columns, slices={name: values[part] for name, values in head.slices.items()})


def _tally(positions: int) -> Callable[[], Any]:
    from analysis import make_predictions

    from imbalance_lab.analysis.tally import mass_bin_edges, merge, tally_head
    from imbalance_lab.metrics.clusters import clusters_of

    (head,) = make_predictions(positions, 1).heads.values()
    clusters, edges = clusters_of(head.group, len(head.group_names)), mass_bin_edges(head)
    bounds = np.linspace(0, positions, SHARDS + 1).astype(int)
    shards = [_rows(head, slice(a, b)) for a, b in pairwise(bounds)]

    def call() -> dict[str, float]:
        begun = time.perf_counter()
        whole = tally_head(head, clusters, edges)
        counted = time.perf_counter()
        parts = [tally_head(shard, clusters, edges) for shard in shards]
        shared = time.perf_counter()
        merged = reduce(merge, parts)
        done = time.perf_counter()
        return {
            "one_pass_s": counted - begun,
            "shards_s": shared - counted,
            "merge_s": done - shared,
            "tally_mib": sum(a.nbytes for a in _arrays(merged)) / 2**20,
            "counts_equal": all(
                np.array_equal(a, b) if a.dtype.kind in "iu" else np.allclose(a, b)
                for a, b in zip(_arrays(whole), _arrays(merged), strict=True)
            ),
        }

    return call


def _arrays(tally: Any) -> list[np.ndarray]:
    found = []
    for f in fields(tally):
        value = getattr(tally, f.name)
        if isinstance(value, np.ndarray):
            found.append(value)
        elif is_dataclass(value):
            found += _arrays(value)
    return found


def _compare(runs: int, positions: int = 20_000) -> Callable[[], Any]:
    from analysis import make_predictions

    from imbalance_lab.comparison.records import RunRecord
    from imbalance_lab.comparison.run_counts import join
    from imbalance_lab.predictions import Predictions, read_parquet, write_parquet

    base = make_predictions(positions, 1)
    ((name, head),) = base.heads.items()
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-"))
    for i in range(runs):
        pred = np.where(rng.random(positions) < 0.1, rng.integers(0, len(head.classes), positions), head.pred)
        one = Predictions({name: replace(head, pred=pred.astype(head.pred.dtype))}, dict(base.meta))
        write_parquet(one, folder / f"{i}.parquet")

    def call() -> dict[str, float]:
        before, _ = memory_mib()
        begun = time.perf_counter()
        records = [
            RunRecord(f"s{i % (runs // 2)}", i // (runs // 2), str(i), read_parquet(folder / f"{i}.parquet"))
            for i in range(runs)
        ]
        read, held = time.perf_counter(), memory_mib()[0]
        joined = join(records, baseline="s0", head=name)
        return {
            "read_s": read - begun,
            "join_and_count_s": time.perf_counter() - read,
            "counts_mib": joined.confusion.nbytes / 2**20,
            "held_mib_per_run": (held - before) / runs,
            "file_mib_per_run": sum(f.stat().st_size for f in folder.iterdir()) / 2**20 / runs,
        }

    return call


def _map_cached(positions: int) -> Callable[[], Any]:
    from imbalance_lab.data.cache import load_cached, save_loaded
    from imbalance_lab.load import load_data, parse_options

    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-")) / "data"
    length = 64
    options = {"source": "simulated", "n_recordings": 9, "window": {"length": length, "stride": length}}
    small = load_data(parse_options(options))
    repeats = -(-positions // (len(small.dataset) * length))
    d = small.dataset
    wide: dict[str, Any] = {
        f.name: np.repeat(value, repeats, axis=0)
        for f in fields(d)
        if isinstance(value := getattr(d, f.name), np.ndarray) and len(value) == len(d)
    }
    tiled = replace(
        d,
        **wide,
        targets={h: np.repeat(v, repeats, axis=0) for h, v in d.targets.items()},
        slices={s: np.repeat(v, repeats, axis=0) for s, v in d.slices.items()},
    )
    save_loaded(replace(small, dataset=tiled, raw=None), folder)
    size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
    del tiled, wide

    def call() -> dict[str, float]:
        before, _ = memory_mib()
        mapped = load_cached(folder)
        assert len(mapped.dataset) >= positions // length
        return {"on_disk_mib": size, "resident_mib": memory_mib()[0] - before}

    return call


def _file(source: str, n_rows: int) -> dict[str, Any]:
    """Options of a Parquet file of ``n_rows`` rows: numbers of a normal distribution, recordings of 10,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part, length = min(n_rows, 10**6), min(10_000, n_rows // 10)
    path = Path(tempfile.mkdtemp(prefix="imbalance-lab-")) / "rows.parquet"
    rng, words = np.random.default_rng(0), np.array(["G0 X1", "G1 X2", "G1 Y3", "G2 X1"])
    label = {"recordings": "gcode_string", "series": "state"}[source]
    writer = None
    for start in range(0, n_rows, part):
        place = np.arange(start, start + part)
        table = pa.table(
            {"recording": [f"face_{i:05d}" for i in (place // length).tolist()], label: words[place // 37 % 11 % 4]}
            | {f"c{i}": rng.standard_normal(part, dtype=np.float32) for i in range(CHANNELS)}
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        del table
    assert writer is not None
    writer.close()
    given = {"split": {"stratify": "none"}} if source == "recordings" else {"recording": "recording", "target": label}
    return {"source": source, "path": str(path), **given}


def _load(source: str, n_rows: int) -> Callable[[], Any]:
    from imbalance_lab.load import load_data, parse_options

    options = parse_options(_file(source, n_rows))

    def call() -> dict[str, float]:
        windows = len(load_data(options).dataset)
        return {"windows": windows, "table_mib": n_rows * CHANNELS * 4 / 2**20}

    return call


def _keep(source: str, n_rows: int) -> Callable[[], Any]:
    """What a grid does with its data before it trains: load, check, write the cache, map it."""
    from imbalance_lab.run.fold_data import kept_data
    from imbalance_lab.spec import parse_experiment

    os.environ["IMBALANCE_LAB_WORK"] = tempfile.mkdtemp(prefix="imbalance-lab-")
    plain = {"name": "keep", "data": _file(source, n_rows), "baseline": "focal", "strategies": {"focal": {}}}
    spec = parse_experiment(plain, where="benchmark")

    def call() -> dict[str, float]:
        before = memory_mib()[0]
        with kept_data(spec) as kept:
            held = memory_mib()[0] - before
            assert len(kept.first.dataset)
        return {"held_mib": held, "table_mib": n_rows * CHANNELS * 4 / 2**20}

    return call


def _series(path: Path, positions: int, channels: int = 20, recordings: int = 100) -> None:
    """Recordings of 20 channels with segments of four classes, as one Parquet file."""
    import pandas as pd

    rng = np.random.default_rng(positions)
    length = positions // recordings
    n = length * recordings
    state = np.repeat(rng.choice(4, n // 10 + 1, p=[0.7, 0.2, 0.08, 0.02]), 10)[:n]
    columns = {f"c{i}": (state * (i % 3 == 0) + rng.normal(size=n)).astype(np.float32) for i in range(channels)}
    names = np.repeat([f"r{i}" for i in range(recordings)], length)
    about = {"run": names, "t": np.tile(np.arange(length), recordings), "state": np.array(["a", "b", "c", "d"])[state]}
    pd.DataFrame({**about, **columns}).to_parquet(path, index=False)


def _evaluate(positions: int) -> Callable[[], Any]:
    from imbalance_lab.learners.all_learners import read_model
    from imbalance_lab.load import load_data
    from imbalance_lab.predictions import read_parquet
    from imbalance_lab.run.evaluating import evaluate_model, load_new
    from imbalance_lab.run.trial import run_trial
    from imbalance_lab.spec import parse_experiment

    folder = Path(tempfile.mkdtemp(prefix="imbalance-lab-"))
    _series(folder / "train.parquet", 5_000)
    _series(folder / "new.parquet", positions)
    data = {"source": "series", "path": str(folder / "train.parquet"), "recording": "run", "order": "t"}
    plain = {
        "name": "evaluate",
        "data": {**data, "target": "state", "window": {"length": 64, "stride": 64}},
        "model": {"name": "mm-dtae-lstm", "hidden": 64, "layers": 1},
        "training": {"epochs": 1, "device": "cpu"},
        "interpret": {"budget": "off"},
        "analysis": {"trials": "light"},
        "baseline": "cross-entropy",
        "strategies": {"cross-entropy": {}},
    }
    spec = parse_experiment(plain, where="benchmark")
    result = run_trial(spec, "cross-entropy", 0, data=load_data(spec.data), folder=folder / "trial")
    (about,) = Path(result.folder).rglob("about.json")
    stored, before = read_model(about.parent), read_parquet(result.predictions("test"))

    def call() -> dict[str, float]:
        begun = time.process_time()
        loaded = load_new(plain, folder / "new.parquet", stored, where="benchmark", allow_missing=False)
        read = time.process_time()
        found = evaluate_model(stored, loaded, before, folder / "out", trained_in="benchmark")
        assert len(found.predictions.heads["state"]) == positions
        return {"read_cpu_s": read - begun, "evaluate_cpu_s": time.process_time() - read}

    return call


def _bind(targets: int) -> Callable[[], Any]:
    from imbalance_lab.loop import bind

    rng = np.random.default_rng(0)
    names = tuple(f"class {i}" for i in range(10))
    ids = np.minimum(rng.geometric(0.3, targets) - 1, 9)
    texts = np.array(names)[ids]

    def call() -> dict[str, float]:
        seconds = {}
        for strategy in BOUND:
            for kind, given in (("ids", ids), ("texts", texts)):
                begun = time.process_time()
                bound = bind(strategy, targets=given, classes=names)
                seconds[f"{strategy}, {kind}, cpu_s"] = time.process_time() - begun
                assert not bound.bound.notes.get("excluded_classes")
        return seconds

    return call


def _task_bytes() -> int:
    """What travels to a worker per trial: the pickled task of the G-code experiment."""

    from imbalance_lab.run.trial import Trial
    from imbalance_lab.spec import TrialId, load_experiment
    from mlflow_project.tracking import Store
    from mlflow_project.trials import Job, TrackedTrial

    spec = load_experiment(ROOT / "experiments" / "gcode-motion.yaml", {})
    store = Store("http://127.0.0.1:5000", "1", "x")
    trial = Trial(TrialId(spec.baseline, 0), spec.to_mapping(), "outputs/x")
    return len(pickle.dumps(Job((TrackedTrial(trial, store, "0" * 32),))))


def _case(what: str, **case: Any) -> Callable[[], Any]:
    cases: dict[str, Callable[..., Callable[[], Any]]] = {
        "tracking": _tracking,
        "tally": _tally,
        "compare": _compare,
        "cache": _map_cached,
        "load": _load,
        "keep": _keep,
        "evaluate": _evaluate,
        "bind": _bind,
    }
    return cases[what](**case)


def _measured(rows: list[Row], missing: list[str], name: dict[str, Any], what: str, **case: Any) -> None:
    try:
        # Engines start processes of their own, which the process of a case may not.
        timing = timed(_engine(**case)) if what == "engine" else fresh(_case, what=what, **case)
    except (CaseError, InputError) as error:
        missing.append(f"{what} {case}: {error}.")
        return
    peak = {"wall_s": timing.wall, "cpu_s": timing.cpu, "peak_mib": timing.peak - timing.before}
    found = name | peak | (timing.value or {})
    if "table_mib" in found:
        found["peak_by_table"] = found["peak_mib"] / found["table_mib"]
    rows.append(found)


def measure(arguments: argparse.Namespace) -> Outcome:
    """All tables."""
    size = arguments.size
    missing: list[str] = []
    tables: dict[str, list[Row]] = {
        name: []
        for name in (
            *("engines", "tracking", "tally in shards", "comparison", "cached data"),
            *("evaluate", "bind", "loading", "data of a grid"),
        )
    }
    engines = [("sequential", "local", 1), ("local", "local", 2)]
    if size != "tiny":
        engines += [("dask", "dask", 2), ("ray", "ray", 2)]
    for shown, engine, jobs in engines:
        for n in TRIALS[size]:
            name = {"engine": shown, "jobs": jobs, "trials": n}
            _measured(tables["engines"], missing, name, "engine", engine=engine, jobs=jobs, trials=n)
    for n in LOGGED[size]:
        _measured(tables["tracking"], missing, {"trials": n}, "tracking", trials=n)
    for n in POSITIONS[size]:
        _measured(tables["tally in shards"], missing, {"positions": n}, "tally", positions=n)
        if n <= 10**7:
            _measured(tables["cached data"], missing, {"positions": n}, "cache", positions=n)
    for n in EVALUATED[size]:
        _measured(tables["evaluate"], missing, {"positions": n}, "evaluate", positions=n)
        _measured(tables["bind"], missing, {"targets": n}, "bind", targets=n)
    for n in RUNS[size]:
        _measured(tables["comparison"], missing, {"runs": n}, "compare", runs=n)
    for source in ("recordings", "series"):
        for n in ROWS[size]:
            for table, what in (("loading", "load"), ("data of a grid", "keep")):
                _measured(tables[table], missing, {"source": source, "rows": n}, what, source=source, n_rows=n)
    facts: dict[str, Any] = {"bytes of a task": _task_bytes()}
    for shown, _, _ in engines:
        rows = [r for r in tables["engines"] if r["engine"] == shown]
        facts[f"slope of map_s, {shown}"] = slope([r["trials"] for r in rows], [r["map_s"] for r in rows])
    for table, x, y in (
        ("tracking", "trials", "s_per_trial"),
        ("tally in shards", "positions", "one_pass_s"),
        ("tally in shards", "positions", "peak_mib"),
        ("comparison", "runs", "wall_s"),
        ("cached data", "positions", "wall_s"),
        ("evaluate", "positions", "evaluate_cpu_s"),
    ):
        rows = tables[table]
        facts[f"slope of {y}, {table}"] = slope([r[x] for r in rows], [r[y] for r in rows])
    return Outcome(tables, facts, tuple(missing))


if __name__ == "__main__":
    sys.exit(run("scale", __doc__, measure))
