"""Map a trial over a grid: joblib is the only seam.

joblib keeps one thread per trial that may run at once and yields results as they come; what a
thread does with its trial is what an engine is: call it (sequential), hand it to a loky process of
its own (the cores of this machine), to a Dask scheduler or to Ray. One trial per worker means that a
worker that dies takes one trial with it. joblib's own "loky" pool loses all its workers with one, its
Dask backend waits for ever on a task whose worker was killed too often, its Ray backend cannot yield
results as they come and deals tasks out in turn, to busy workers too (``docs/scale.md``).
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import queue
import shutil
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Generic, TypeVar

from imbalance_lab.addresses import without_secrets
from imbalance_lab.errors import InputError
from imbalance_lab.processes import begin_worker

ENGINES = ("local", "dask", "ray")
MOST_DEATHS = 2
"""A task under which this many workers died counts as failed."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A task that raised, or whose worker died too often: its place in the grid and the reason in one line."""

    index: int
    reason: str


@dataclass(frozen=True)
class Ended(Generic[Result]):
    """A task that ended; ``starts`` above 1: a worker died with it, or with its result, and it was run again."""

    index: int
    outcome: Result | Failure
    starts: int = 1


@dataclass(frozen=True)
class Plan:
    """How many workers there are (0: as many as the cluster has), with how many threads each, and where.

    A worker runs one trial at a time, but for plans with ``devices``: then each worker has one of them,
    and trains at most ``together`` trials at once on it (None: as many as its memory holds).
    ``cluster`` is the address of one that runs already; ``gpu`` asks Ray for a GPU per worker;
    ``apart``: a single local worker is a process of its own too.
    """

    jobs: int
    threads: int
    engine: str = "local"
    cluster: str = ""
    gpu: bool = False
    devices: tuple[str, ...] = ()
    together: int | None = None
    apart: bool = False


def plan_for(jobs: int | None, trials: int, gpus: Sequence[str] = (), engine: str = "local", cluster: str = "") -> Plan:
    """Divide the cores: as many trials at once as there are cores, unless ``jobs`` says otherwise.

    A worker has one thread, or as many as ``OMP_NUM_THREADS`` says, however many workers there are: another number
    of threads adds in another order, and the figures of a trial must not depend on ``jobs``. One process per core
    beats one process with all threads for recurrent networks of this size (``benchmarks/``). With ``gpus`` there is
    a process for each, which trains many trials at once; ``jobs`` is then the most that all of them train at once.
    On a cluster that runs already there are as many trials at once as it has workers, with one thread each.

    Raises
    ------
    InputError
        If ``jobs`` is below 1, ``OMP_NUM_THREADS`` is no number from 1, the engine is unknown or not installed, or
        the address is not one of the engine.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: found {jobs}; allowed are integers from 1")
    if engine not in ENGINES:
        raise InputError(f"engine: found {engine!r}; allowed are {', '.join(ENGINES)}")
    if engine != "local":
        _extra({"dask": "distributed", "ray": "ray"}[engine], engine)
    _check_address(engine, cluster)
    if cluster:
        return Plan(min(jobs or 0, trials), 1, engine, cluster, bool(gpus))
    if gpus and engine == "local":
        used = tuple(gpus[: max(1, min(trials, jobs or trials))])
        together = None if jobs is None else math.ceil(jobs / len(used))
        return Plan(len(used), 1, gpu=True, devices=used, together=together, apart=True)
    wanted = jobs if jobs is not None else (len(gpus) or cores())
    at_once = max(1, min(wanted, trials))
    return Plan(at_once, _threads(), engine, cluster, bool(gpus))


def _threads() -> int:
    """Of a worker; OpenMP takes a list too, of which the first number is for the outermost level."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip() or "1"
    if not (given.isascii() and given.isdigit() and int(given) >= 1):
        raise InputError(f"environment variable OMP_NUM_THREADS: found {given!r}; allowed are integers from 1")
    return int(given)


def plan_beside(plan: Plan) -> Plan:
    """Processes for what a plan with devices leaves to the CPU: one per core that no device's process keeps busy."""
    return Plan(max(1, cores() - plan.jobs), 1, apart=True)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _check_address(engine: str, cluster: str) -> None:
    if not cluster:
        return
    if engine == "local":
        raise InputError(
            f"cluster: found {without_secrets(cluster)!r} with engine local; allowed with dask and ray only"
        )
    scheme = cluster.partition("://")[0] if "://" in cluster else ""
    allowed = {"dask": ("tcp", "tls", "ucx", "ws", "wss"), "ray": ("ray", "")}[engine]
    if scheme not in allowed:
        forms = {"dask": "tcp://host:port or tls://host:port", "ray": "ray://host:port, host:port or auto"}[engine]
        raise InputError(f"cluster: found {without_secrets(cluster)!r}; allowed with engine {engine} are {forms}")


@dataclass(frozen=True)
class Engine:
    """An open engine: ``jobs`` tasks run at once; ``stop`` ends its workers in the middle of their tasks.

    Made by :func:`open_engine`. A cluster that ran before goes on with the tasks that it has begun.
    """

    jobs: int
    send: Callable[[_Call], Ended[Any]] = field(repr=False)
    stop: Callable[[], None] = field(default=lambda: None, repr=False)

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        *,
        again: Callable[[Task], Result] | None = None,
        journal: Path | None = None,
    ) -> Iterator[Ended[Result]]:
        """Yield :class:`Ended` as tasks end, in the order in which they end.

        A task that raises does not stop the others. A task whose worker dies is started once more;
        when that one dies too, it ends as a :class:`Failure`.

        Parameters
        ----------
        function, tasks : picklable, unless one task at a time runs here
        again : called instead of ``function`` when the task was started before (default: ``function``)
        journal : a folder that every worker sees, emptied first, where starts are counted; only this
            machine's workers see the default, a temporary one
        """
        from joblib import Parallel, delayed

        with ExitStack() as stack:
            if journal is None:
                journal = Path(stack.enter_context(TemporaryDirectory(prefix="imbalance-lab-")))
            else:
                shutil.rmtree(journal, ignore_errors=True)
                journal.mkdir(parents=True)
            one = partial(self.call, function, again=again, journal=journal)
            calls = (delayed(one)(task, index=index) for index, task in enumerate(tasks))
            parallel = stack.enter_context(
                Parallel(n_jobs=self.jobs, backend="threading", return_as="generator_unordered")
            )
            yield from parallel(calls)

    def call(
        self,
        function: Callable[[Task], Result],
        task: Task,
        *,
        again: Callable[[Task], Result] | None = None,
        journal: Path,
        index: int = 0,
    ) -> Ended[Result]:
        """One task, as in :meth:`map`; waits for it. ``journal`` exists, and no two tasks in it share an ``index``."""
        call = _Call(function, again or function, task, index, str(journal.absolute()))
        try:
            return self.send(call)
        except Exception as error:  # what the engine itself raises is the failure of this one task
            return call.failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


@contextmanager
def open_engine(plan: Plan) -> Iterator[Engine]:
    """Start the workers of a plan, or connect to them; they stop when the block is left.

    Raises
    ------
    InputError
        If the engine's package is not installed, or its cluster does not answer or cannot be used.
    """
    openers = {"local": _open_local, "dask": _open_dask, "ray": _open_ray}
    with openers[plan.engine](plan) as engine:
        yield engine


@dataclass(frozen=True)
class _Call:
    """What travels to a worker."""

    function: Callable[[Any], Any]
    again: Callable[[Any], Any]
    task: Any
    index: int
    journal: str

    @property
    def mark(self) -> Path:
        """``s`` per start, ``e`` per end; the worker writes it, because some engines start tasks anew by themselves."""
        return Path(self.journal) / f"{self.index}.starts"

    def history(self) -> str:
        return self.mark.read_text(encoding="ascii") if self.mark.exists() else ""

    def note(self, what: str) -> None:
        with self.mark.open("a", encoding="ascii") as stream:
            stream.write(what)

    def failed(self, reason: str) -> Ended[Any]:
        return Ended(self.index, Failure(self.index, reason), max(1, self.history().count("s")))


def _attempt(call: _Call) -> Ended[Any]:
    """One start of a task, in the worker."""
    if not Path(call.journal).is_dir():
        return call.failed(
            f"worker {socket.gethostname()} does not see {call.journal}; the grid's folder (IMBALANCE_LAB_WORK) "
            "must lie on a file system that all workers share"
        )
    before = call.history()
    # A worker may also die between the end of a task and the arrival of its result; that is not the task's doing.
    starts, deaths = before.count("s"), before.count("s") - before.count("e")
    if deaths >= MOST_DEATHS:
        return call.failed(f"its worker was killed {deaths} times")
    call.note("s")
    try:
        outcome = (call.again if starts else call.function)(call.task)
    except Exception as error:  # a trial's failure is reported, whatever it is; the grid goes on
        outcome = Failure(call.index, f"{type(error).__name__}: {error}")
    call.note("e")
    return Ended(call.index, outcome, starts + 1)


@contextmanager
def _open_local(plan: Plan) -> Iterator[Engine]:
    if plan.jobs == 1 and not plan.apart:
        yield Engine(1, _attempt)
        return
    from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

    # numpy's and scipy's thread pools read these once, when a worker first imports them.
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    environment = {name: os.environ.get(name, str(plan.threads)) for name in variables}
    if not plan.gpu:
        # Whatever asks PyTorch about CUDA in a worker would take memory on every GPU for a context.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # loky replaces a worker that grew by 300 MB between two tasks, as one does with the imports of its first trial.
    # Nothing is lost by that; where warnings are errors, the thread that would raise it is the one that replaces.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
    closing = threading.Event()
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    alive: set[Any] = set()

    def worker() -> Any:
        started = ProcessPoolExecutor(max_workers=1, env=environment, initializer=begin_worker, initargs=(os.getpid(),))
        alive.add(started)
        return started

    def send(call: _Call) -> Ended[Any]:
        executor, reason = free.get(), ""
        try:
            for _ in range(MOST_DEATHS + 1):
                try:
                    return executor.submit(_attempt, call).result()
                except BrokenProcessPool as error:
                    reason = " ".join(f"{type(error).__name__}: {error.__cause__ or error}".split())
                    alive.discard(executor)
                    executor.shutdown(wait=False)
                    if closing.is_set():
                        raise
                    executor = worker()
            return call.failed(f"its worker died {MOST_DEATHS + 1} times before the trial began ({reason[-500:]})")
        finally:
            free.put(executor)

    for _ in range(plan.jobs):
        free.put(worker())

    def stop() -> None:
        closing.set()
        for executor in tuple(alive):
            executor.shutdown(wait=True, kill_workers=True)

    try:
        yield Engine(plan.jobs, send, stop)
    finally:
        stop()


@contextmanager
def _open_dask(plan: Plan) -> Iterator[Engine]:
    distributed = _extra("distributed", "dask")
    with ExitStack() as stack:
        address: Any = plan.cluster
        if not plan.cluster:
            # No memory limit: a trial that needs much is the operating system's matter, as with the local engine.
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=plan.jobs,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            client = stack.enter_context(distributed.Client(address, timeout=20, set_as_default=False))
            client.wait_for_workers(plan.jobs or 1, timeout=60)
        except (OSError, TimeoutError, ValueError) as error:
            where = plan.cluster or "the local one"
            raise InputError(without_secrets(f"cluster: {where} does not answer ({error})")) from None
        threads = client.nthreads()
        wide = {worker: n for worker, n in threads.items() if n > 1}
        if wide:
            worker, n = next(iter(wide.items()))
            raise InputError(
                f"cluster: worker {worker} has {n} threads; allowed is 1 (dask worker --nworkers N --nthreads 1), "
                "because the trials of one process would share its random and plotting state"
            )
        # One task in flight per worker: a worker that dies cannot take a waiting task with it.
        stop = (lambda: None) if plan.cluster else address.close
        yield Engine(plan.jobs or len(threads), lambda call: client.submit(_attempt, call, pure=False).result(), stop)


@contextmanager
def _open_ray(plan: Plan) -> Iterator[Engine]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray runs workers at niceness 15 to keep its own processes responsive; a training then starves beside any other.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray = _extra("ray", "ray")
    ours = not ray.is_initialized()
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if ours and plan.cluster:
        try:
            ray.init(address=plan.cluster, **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"cluster: {without_secrets(plan.cluster)} does not answer ({without_secrets(reason)})"
            ) from None
    elif ours:
        # Only plain values travel: the default store would take 30 % of the memory.
        ray.init(address="local", num_cpus=plan.jobs, include_dashboard=False, object_store_memory=200 * 2**20, **quiet)
    try:
        have = ray.cluster_resources()
        jobs = plan.jobs or int(have.get("GPU" if plan.gpu else "CPU", 1))
        options = {"num_cpus": 1, "num_gpus": int(plan.gpu), "max_retries": 2 * MOST_DEATHS}
        remote = ray.remote(**options)(_attempt)
        stop = ray.shutdown if ours and not plan.cluster else (lambda: None)
        yield Engine(jobs, lambda call: ray.get(remote.remote(call)), stop)
    finally:
        if ours:
            ray.shutdown()


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"engine: found {extra!r}, but {module} is not installed; pip install 'imbalance-lab[{extra}]'"
        ) from None
