"""What does someone meet who has never seen this project? A fresh clone, installed and run by every route.

Command   python benchmarks/newcomer.py [--only pins,pythons,routes,releases,wheel] [--folder FOLDER] [--json FILE]
          python benchmarks/newcomer.py --write      (docs/newcomer.md from benchmarks/results/newcomer.json)
Duration  half an hour or more and the network: every part installs into new environments; up to 8 GB at a time
Result    seconds and exit codes; whether every Python gives the same figures; where store, artifacts and `outputs` of
          `mlflow run` land, and whether the command that the last line prints opens them

--only keeps the other tables that the JSON file holds already. At its tiny size it installs nothing and only says which
Pythons are there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import ROOT, CaseError, Outcome, Row, environment, run
from _markdown import table

RESULTS = ROOT / "benchmarks" / "results" / "newcomer.json"
DOCUMENT = ROOT / "docs" / "newcomer.md"
MINORS = (11, 12, 13, 14)
SMALL = ("--epochs", "1", "--strategies", "cross-entropy,logit-adjusted", "--seeds", "0")
TINY = "tests/experiments/tiny-mill.yaml"
RELEASES = ("3.17.0", "newest")
"""The oldest MLflow that pyproject.toml accepts, and the newest that can be installed."""

MANAGERS = ("local", "uv", "virtualenv")
OPENED_S = 300  # how long ``mlflow ui`` may take until it answers
_URL = "https://git.invalid/lab.git"
"""Stands for a repository elsewhere: MLflow clones no address of this disk, so git is told that it lies here."""


@dataclass(frozen=True)
class Done:
    """A command that ended: seconds, exit code, what it printed."""

    seconds: float
    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last line of what it said, for a table."""
        lines = (self.err.strip() or self.out.strip() or "nothing said").splitlines()
        return lines[-1][:200]


def call(command: list[str], folder: Path, around: dict[str, str], limit_s: float = 1800) -> Done:
    """Run a command in a folder; it never raises."""
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=folder, env=around, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Done(time.perf_counter() - begun, -1, "", str(error))
    return Done(time.perf_counter() - begun, done.returncode, done.stdout, done.stderr)


def must(done: Done) -> Done:
    """``done`` where it ended well.

    Raises
    ------
    CaseError
        Otherwise.
    """
    if done.code:
        raise CaseError(f"ended with {done.code}: {done.reason}")
    return done


def bare_environment(*first: Path) -> dict[str, str]:
    """The variables of a newcomer: none that this project, a virtual environment or MLflow set; ``first`` on PATH."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "IMBALANCE_LAB_WORK", "OMP_NUM_THREADS")
    kept = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("MLFLOW_")}
    if "PIP_FIND_LINKS" in kept:  # uv does not read pip's
        kept.setdefault("UV_FIND_LINKS", kept["PIP_FIND_LINKS"])
    old = [p for p in kept["PATH"].split(os.pathsep) if not Path(p, "activate").exists()]
    return kept | {"PATH": os.pathsep.join([*map(str, first), *old]), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def pythons() -> dict[int, Path]:
    """Minor version to the program, of those of :data:`MINORS` that start; pyenv's are found where PATH has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found: dict[int, Path] = {}
    for minor in MINORS:
        named = shutil.which(f"python3.{minor}")
        for program in [*([Path(named)] if named else []), *sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))]:
            if call([str(program), "-c", "import venv"], Path.cwd(), dict(os.environ), 60).code == 0:
                found[minor] = program
                break
    return found


def clone_into(folder: Path, *flags: str) -> Path:
    """A clone of the last commit, without the objects of the original's folder."""
    must(call(["git", "clone", "--quiet", *flags, str(ROOT), str(folder)], ROOT, bare_environment()))
    return folder


def new_environment(program: Path, folder: Path) -> tuple[Path, float]:
    """A virtual environment that holds only pip; its folder of programs, and the seconds."""
    done = must(call([str(program), "-m", "venv", str(folder)], folder.parent, bare_environment()))
    return folder / "bin", done.seconds


def size_gib(folder: Path) -> float:
    """What the files of a folder take, each inode once."""
    seen = {(s.st_dev, s.st_ino): s.st_size for s in (p.lstat() for p in folder.rglob("*"))}
    return sum(seen.values()) / 2**30


def figures(store: Path) -> dict[str, float]:
    """``run name / metric`` to value, of the trials and the grid in an SQLite store: scores, not seconds."""
    with closing(sqlite3.connect(store)) as database:
        rows = database.execute(
            "SELECT r.name, m.key, m.value FROM latest_metrics m JOIN runs r USING (run_uuid) WHERE NOT m.is_nan"
        ).fetchall()
    scores = {f"{name}/{key}": float(value) for name, key, value in rows if "second" not in key and "time/" not in key}
    if not scores:
        raise CaseError(f"no metrics in {store.name}")
    return scores


def agreement(first: dict[str, float], other: dict[str, float]) -> Row:
    """How far two sets of figures agree: the greatest relative difference, and the digits that all of them share."""
    if first.keys() != other.keys():
        return {"figures": len(other), "alike": "other figures"}
    apart = max(
        (abs(a - other[name]) / max(abs(a), abs(other[name])) for name, a in first.items() if a != other[name]),
        default=0.0,
    )
    alike = "all digits" if apart == 0 else f"{max(0, math.floor(-math.log10(apart)))} digits"
    return {"figures": len(other), "alike": alike, "apart": apart}


# --- the last line ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LastLine:
    """What the last line of a grid names: the command that opens the page, and the address in it."""

    command: tuple[str, ...]
    store: str
    experiment: str
    view: str


def last_line(out: str) -> LastLine:
    """Read it.

    Raises
    ------
    CaseError
        If there is none.
    """
    for line in reversed(out.splitlines()):
        found = re.search(
            r"Open with: (mlflow ui --backend-store-uri (\S+))\s+then \S+/#/experiments/(\w+)/runs\?(\S*)", line
        )
        if found:
            view = re.search(r"viewStateShareKey=(\w+)", found[4])
            return LastLine(tuple(shlex.split(found[1])), found[2], found[3], view[1] if view else "")
    raise CaseError("no last line that opens the result")


@contextmanager
def opened(line: LastLine, folder: Path, around: dict[str, str]) -> Iterator[str]:
    """The address of the page that the printed command starts, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*line.command, "--port", str(port), "--workers", "1"], cwd=folder, env=around,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0,
    )  # fmt: skip
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + OPENED_S
    try:
        while True:
            if server.poll() is not None:
                raise CaseError(f"{' '.join(line.command)} ended with {server.returncode}")
            try:
                ask(f"{address}/health")
                break
            except CaseError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)
        yield address
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with suppress(ProcessLookupError):  # on a busy machine it takes longer than anybody waits
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def ask(address: str, body: dict[str, Any] | None = None) -> bytes:
    """What the server answers; a CaseError where it does not."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError) as error:
        raise CaseError(f"{address.rpartition('/')[2]}: {error}") from None


def what_opens(out: str, folder: Path, around: dict[str, str]) -> str:
    """ "yes" where the printed command shows the view, the runs and a page of the grid; else what is missing."""
    try:
        line = last_line(out)
        with opened(line, folder, around) as address:
            api = f"{address}/api/2.0/mlflow"
            about = json.loads(ask(f"{api}/experiments/get?experiment_id={line.experiment}"))["experiment"]
            if not any(line.view and tag["key"].endswith(f".{line.view}") for tag in about.get("tags", [])):
                return "no such view"
            runs = json.loads(ask(f"{api}/runs/search", {"experiment_ids": [line.experiment]}))["runs"]
            roles = {r["info"]["run_id"]: {t["key"]: t["value"] for t in r["data"]["tags"]}.get("role") for r in runs}
            if list(roles.values()).count("trial") < 2:
                return "no trials"
            for run_id, role in roles.items():
                page = {"grid": "comparison/index.html", "trial": "report/index.html"}.get(str(role))
                if page and b"</html>" not in ask(f"{address}/get-artifact?path={page}&run_uuid={run_id}"):
                    return f"{page} is not whole"
    except CaseError as error:
        return str(error)
    return "yes"


def landed(kind: str, places: dict[str, Path]) -> str:
    """In which of the named folders ``mlflow.db``, ``mlruns`` or ``outputs`` lies now."""
    return ", ".join(name for name, folder in places.items() if (folder / kind).exists()) or "nowhere"


# --- the parts -------------------------------------------------------------------------------------------------------


def each_pin(folder: Path) -> list[Row]:
    """For every Python and system: whether uv finds wheels of all pins. Nothing is installed: neither need be there."""
    uv = shutil.which("uv")
    if uv is None:
        raise CaseError("uv is not on this machine")
    clone = clone_into(folder / "clone")
    around = bare_environment() | {"MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_CACHE_DIR": str(folder / "cache")}
    around.pop("UV_FIND_LINKS", None)  # what the registry offers, not what lies on this disk
    rows: list[Row] = []
    for minor in MINORS:
        for system, platform in PLATFORMS.items():
            given = ("--python-version", f"3.{minor}", "--python-platform", platform, "--only-binary", ":all:")
            what = ("--constraint", "constraints.txt", "--extra", "dev", "--no-header", "pyproject.toml")
            done = call([uv, "pip", "compile", "--quiet", *given, *what], clone, around, 300)
            names = [line.partition("==")[0] for line in done.out.splitlines() if "==" in line]
            cuda = sum(name.startswith("nvidia-") for name in names)
            row: Row = {"python": f"3.{minor}", "system": system}
            rows.append(row | ({"failed": done.reason} if done.code else {"packages": len(names), "cuda": cuda}))
    return rows


PLATFORMS = {
    "Linux, x86": "x86_64-manylinux_2_28",
    "Linux, ARM": "aarch64-manylinux_2_28",
    "macOS, ARM": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}


def each_python(folder: Path, minors: tuple[int, ...], by: str) -> list[Row]:
    """Every Python: a new environment, the pins by pip or uv, a tiny grid, its figures against the first's."""
    rows: list[Row] = []
    first: dict[str, float] | None = None
    for minor, program in pythons().items():
        if minor not in minors:
            continue
        row: Row = {"python": f"3.{minor}", "by": by, "grid": Path(TINY).stem}
        rows.append(row)
        clone, place = clone_into(folder / f"clone-{minor}"), folder / f"venv-{minor}"
        try:
            programs, _ = new_environment(program, place)
            around = bare_environment(programs)
            row["python"] = call([str(programs / "python"), "-V"], folder, around).out.split()[-1]
            row |= installed(programs, clone, around, "-c", "constraints.txt", "-e", ".", by=by)
            row |= {"gib": size_gib(place)} | small_grid(programs, clone, around, "--experiment", TINY)
            found = figures(clone / "mlflow.db")
            first = first or found
            row |= agreement(first, found)
            print(row, flush=True)
        except CaseError as error:
            row["failed"] = str(error)
            print(row, flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(clone, ignore_errors=True)
    return rows


def installed(programs: Path, folder: Path, around: dict[str, str], *what: str, by: str = "pip") -> Row:
    """Seconds of ``pip install`` or ``uv pip install``."""
    python = str(programs / "python")
    tool = ("uv", "pip", "install", "--python", python) if by == "uv" else (python, "-m", "pip", "install")
    done = must(call([*tool, "--quiet", *what], folder, around))
    return {"install_s": done.seconds}


def small_grid(programs: Path, folder: Path, around: dict[str, str], *what: str) -> Row:
    """Seconds and exit code of a small grid, or of that of ``what``, and whether its last line opens it."""
    done = call([str(programs / "python"), "-m", "mlflow_project", "run", *(what or SMALL)], folder, around)
    row: Row = {"run_s": done.seconds, "code": done.code}
    if done.code:
        raise CaseError(f"the grid ended with {done.code}: {done.reason}")
    return row | {"opens": what_opens(done.out, folder, around)}


def each_route(folder: Path, launcher: Path | None, wanted: str) -> list[Row]:
    """``mlflow run`` by every manager of environments, from every place.

    It is started by a new environment, or by that of the programs in ``launcher``, which holds the project's packages.
    ``wanted`` is a pattern of ``manager from place``.
    """
    program = next(iter(pythons().values()))
    source = clone_into(folder / "source")
    bare = clone_into(folder / "lab.git", "--bare")
    local = bare_environment(launcher or folder / "launcher" / "bin")
    if launcher is None:
        launcher, _ = new_environment(program, folder / "launcher")
        installed(launcher, source, local, "-c", "constraints.txt", "-e", ".", "uv")
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{bare}.insteadOf", "GIT_CONFIG_VALUE_0": _URL}
    routes: dict[str, Callable[[], tuple[str, Path, Path]]] = {
        "the clone's folder": lambda: (".", *(2 * (clone_into(folder / "own"),))),
        "another folder": lambda: (str(source), source, folder / "here"),
        "another folder, file:// URI": lambda: (f"{source.as_uri()}#", source, folder / "here"),
        "another folder, git URI of a bare repository": lambda: (f"{_URL}#", bare, folder / "here"),
    }
    rows: list[Row] = []
    for manager in MANAGERS:
        environments = folder / f"environments-{manager}"
        around = local | git | {"MLFLOW_ENV_ROOT": str(environments)}
        for name, prepare in routes.items():
            if not re.search(wanted, f"{manager} from {name}"):
                continue
            uri, project, here = prepare()
            here.mkdir(exist_ok=True)
            new = not environments.exists()
            command = [str(launcher / "mlflow"), "run", uri, "--env-manager", manager, "-P", f"experiment={TINY}"]
            done = call(command, here, around)
            row: Row = {"manager": manager, "from": name, "seconds": done.seconds, "code": done.code}
            row["environment"] = "present" if manager == "local" else "made" if new else "kept"
            if row["environment"] == "made" and environments.exists():
                row["gib"] = size_gib(environments)
            if done.code:
                row["failed"] = done.reason
            else:
                places = (
                    {"where it was called": here}
                    if here == project
                    else {"where it was called": here, "project": project}
                )
                row |= {key: landed(kind, places) for key, kind in LANDS.items()}
                row["opens"] = what_opens(done.out, here, around)
            rows.append(row)
            print(row, flush=True)
            shutil.rmtree(here, ignore_errors=True)
        shutil.rmtree(environments, ignore_errors=True)
    return rows


LANDS = {"store": "mlflow.db", "artifacts": "mlruns", "outputs": "outputs"}


def each_release(folder: Path) -> list[Row]:
    """The oldest and the newest MLflow that are accepted, all else as pinned, by uv."""
    program = next(iter(pythons().values()))
    rows: list[Row] = []
    clone = clone_into(folder / "clone")
    pins = (clone / "constraints.txt").read_text(encoding="utf-8").splitlines()
    free = folder / "constraints.txt"
    free.write_text("\n".join(pin for pin in pins if not pin.startswith("mlflow")) + "\n", encoding="utf-8")
    for release in RELEASES:
        row: Row = {"mlflow": release}
        rows.append(row)
        place = folder / "venv"
        try:
            # The companions of a release have its number; they are taken with it.
            wanted = "mlflow>=3.17,<4" if release == "newest" else f"mlflow=={release}"
            taken = what_is_taken(wanted, folder, free)
            row["mlflow"] = taken.partition("==")[2]
            if taken in pins:
                row["mlflow"] += ": the pin, as in all other tables"
                continue
            programs, _ = new_environment(program, place)
            around = bare_environment(programs)
            row |= installed(programs, clone, around, "-c", str(free), "-e", ".", wanted, by="uv")
            here = folder / f"here-{release}"
            here.mkdir()
            row |= small_grid(programs, here, around, "--experiment", str(clone / TINY))
            row["figures"] = len(figures(here / "mlflow.db"))
            print(row, flush=True)
        except CaseError as error:
            row["failed"] = str(error)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return rows


def what_is_taken(wanted: str, folder: Path, constraints: Path) -> str:
    """``name==version`` of a requirement, as uv would install it with all that it needs."""
    (folder / "wanted.in").write_text(wanted + "\n", encoding="utf-8")
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-c", str(constraints), "wanted.in"]
    lines = must(call(command, folder, bare_environment())).out.splitlines()
    return next(line for line in lines if line.startswith("mlflow=="))


def from_wheel(folder: Path) -> list[Row]:
    """A wheel, built from a clone and installed into a new environment, run in an empty folder."""
    program = next(iter(pythons().values()))
    clone, empty = clone_into(folder / "clone"), folder / "empty"
    empty.mkdir()
    programs, _ = new_environment(program, folder / "venv")
    around = bare_environment(programs)
    pip = [str(programs / "python"), "-m", "pip"]
    built = must(call([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(clone)], folder, around))
    (wheel,) = folder.glob("*.whl")
    row: Row = {"wheel": "built and installed", "build_s": built.seconds, "mib": wheel.stat().st_size / 2**20}
    row |= installed(programs, folder, around, "-c", str(clone / "constraints.txt"), str(wheel))
    shutil.rmtree(clone)  # nothing of it may be used
    row |= small_grid(programs, empty, around)
    return [row | {"left": ", ".join(sorted(p.name for p in empty.iterdir()))}]


PARTS = ("pins", "pythons", "routes", "releases", "wheel")
KEYS = {"pythons": ("python", "by"), "routes": ("manager", "from")}
"""What names a row of the parts that can be measured row by row."""


def merged(name: str, before: list[Row], found: list[Row]) -> list[Row]:
    """The new rows and those of before that were not measured again, in order."""
    keys = KEYS.get(name)
    if keys is None:
        return found
    new = {tuple(row[key] for key in keys) for row in found}
    rows = [*(row for row in before if tuple(row[key] for key in keys) not in new), *found]
    if name == "routes":
        return sorted(rows, key=lambda row: MANAGERS.index(row["manager"]))
    return sorted(rows, key=lambda row: (row["by"], row["python"]))


def measure(arguments: argparse.Namespace) -> Outcome:
    """The parts that were asked for, each in a folder that is removed after it."""
    there = pythons()
    absent = [f"3.{minor}" for minor in MINORS if minor not in there]
    lacks = [f"Python {version} is not on this machine." for version in absent]
    tables: dict[str, list[Row]] = {}
    if arguments.json and arguments.json.exists():
        before = json.loads(arguments.json.read_text(encoding="utf-8"))
        tables |= {
            name: [{"commit": before["environment"]["commit"]} | row for row in rows]
            for name, rows in before["tables"].items()
        }
    asked = [] if arguments.size == "tiny" else arguments.only.split(",")
    for name in asked:
        folder = Path(tempfile.mkdtemp(prefix="newcomer-", dir=arguments.folder))
        try:
            if name == "routes":
                found = each_route(folder, arguments.launcher, arguments.routes)
            elif name == "pythons":
                minors = tuple(int(minor.split(".")[1]) for minor in arguments.pythons.split(","))
                found = each_python(folder, minors, arguments.by)
            else:
                found = {"pins": each_pin, "releases": each_release, "wheel": from_wheel}[name](folder)
            commit = environment()["commit"]  # what is cloned: a plus says that the script or its result differs
            tables[name] = merged(name, tables.get(name, []), [row | {"commit": commit} for row in found])
        except CaseError as error:
            tables[name] = [{"failed": str(error)}]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    lacks += [f"{name}: not run." for name in PARTS if name not in tables]
    tried = {row.get("manager") for row in tables.get("routes", [])}
    lacks += [f"--env-manager {m}: not run." for m in MANAGERS if tried and m not in tried]
    lacks.append("conda is not on this machine.") if shutil.which("conda") is None else None
    return Outcome(tables, {"pythons": ", ".join(f"3.{minor}" for minor in there)}, tuple(lacks))


# --- the document ----------------------------------------------------------------------------------------------------

COLUMNS = {
    "pins": {
        "python": "Python", "system": "system", "packages": "packages", "cuda": "of them CUDA's",
    },
    "pythons": {
        "python": "Python", "by": "by", "install_s": "install, s", "gib": "GiB", "grid": "grid", "run_s": "grid, s",
        "code": "exit code", "figures": "figures", "alike": "equal to the first's in", "opens": "last line opens it",
    },
    "routes": {
        "manager": "`--env-manager`", "from": "from", "environment": "environment", "gib": "GiB", "seconds": "s",
        "code": "exit code", "store": "store", "artifacts": "artifacts", "outputs": "`outputs`",
        "opens": "last line opens it",
    },
    "releases": {
        "mlflow": "MLflow", "install_s": "install, s", "run_s": "tiny grid, s", "code": "exit code",
        "figures": "figures", "opens": "last line opens it",
    },
    "wheel": {
        "wheel": "", "build_s": "build, s", "mib": "MiB", "install_s": "install, s", "run_s": "small grid, s",
        "code": "exit code", "left": "what lies in the folder then", "opens": "last line opens it",
    },
}  # fmt: skip
LAST = {"commit": "commit", "failed": "failed"}
TITLES = {
    "pins": "Whether `constraints.txt` resolves, to wheels alone (`uv pip compile`; nothing was installed or run)",
    "pythons": "`pip install -c constraints.txt -e .` or `uv pip install` of the same, from a fresh clone",
    "routes": "`mlflow run`",
    "releases": "The oldest and the newest MLflow that are accepted",
    "wheel": "A wheel, in an empty folder",
}

ABOUT = {
    "pins": """
For Linux the registry's torch brings CUDA along, whatever the Python. `make` therefore asks uv for PyTorch's own
build for the driver that is there, or that for CPUs, and leaves the rest to pip; `UV_TORCH_BACKEND=auto` tells uv the
same for `mlflow run . --env-manager uv`. Where those builds cannot be had, pip takes that with CUDA, unless one for
CPUs lies in a folder that `PIP_FIND_LINKS` names: so it was on the machine of these measurements, for Python 3.11
alone. That is why the environments of the other Pythons below are larger.
""",
    "pythons": """
uv keeps what it has downloaded, here and in the tables below: its seconds are those of a second installation, for the
first Python wholly and for others in part.
""",
    "routes": """
An environment that is "kept" was made by the row before. `--env-manager virtualenv` needs pyenv (MLflow asks for it),
`uv` needs uv on the path.
""",
}


def written(result: dict[str, Any]) -> str:
    """The document; no number in it is typed by hand."""
    around = result["environment"]
    machine = f"{around['cores']} cores of {around['processor']}"
    text = f"""# What a newcomer meets

Written by `python benchmarks/newcomer.py --write` from `benchmarks/results/newcomer.json`. {result["date"]}, {machine},
the commit in each row (a plus: with changes to this script, `make` or a pin). Other work ran beside it (load
{around["load_at_start"]:.0f} when the last part began), so seconds are upper bounds and no comparison: not of Pythons,
nor of managers. The small grid is `run {" ".join(SMALL)}` of the embedded experiment;
the tiny one, which `mlflow run` and the releases are tried with, is `{TINY}`.
"Last line opens it": the command that the last line prints
was started where it was printed; the saved view, the trials, the comparison and every report were asked for.
"""
    for name, title in TITLES.items():
        if name in result["tables"]:
            text += f"\n## {title}\n\n{table(result['tables'][name], COLUMNS[name] | LAST)}\n{ABOUT.get(name, '')}"
    return text + "\n## Not tried\n\n" + "\n".join(f"- {line}" for line in result["not_measured"]) + "\n"


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--pythons", default=",".join(f"3.{minor}" for minor in MINORS), help="only these")
    parser.add_argument("--by", choices=("pip", "uv"), default="pip", help="what installs for each Python")
    parser.add_argument(
        "--launcher", type=Path, help="programs of an environment that starts `mlflow run` (default: new)"
    )
    parser.add_argument("--routes", default="", help="only those of `manager from place` that this pattern finds")
    parser.add_argument("--folder", type=Path, help="where the clones and environments go (default: the system's)")


def main(argv: list[str] | None = None) -> int:
    if (sys.argv[1:] if argv is None else argv) == ["--write"]:
        DOCUMENT.write_text(written(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    return run("newcomer", __doc__, measure, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
