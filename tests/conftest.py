"""What all tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("browser_server")  # before any test imports it: some take it as a plugin

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path | None:
    """The folder with the real recordings and golden files, or None where it is missing."""
    folder = Path(os.environ.get("IMBALANCE_LAB_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "golden").is_dir() else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-dir", default=None, help="folder of golden files (default: ../shared/golden)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``cuda`` are skipped where there is no device."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The shared folder; the test is skipped where it is missing."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("the shared folder with the real recordings is not on this machine")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors are slower on several threads, and the machine may be shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``mlflow.set_experiment`` tells child processes its choice by the environment, and no test undoes that."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    if "mlflow.tracking.fluent" in sys.modules:
        monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A grid that ran in this process flushed denormal numbers; the next test starts as a process does."""
    import torch

    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)
