"""``run --quiet`` says the verdict and where to open it; a wrong value is told before anything is loaded."""

from __future__ import annotations

import logging

import pytest
from grid_fixture import tiny_mapping

from imbalance_lab.run.terminal import only_verdict, quiet, say
from mlflow_project.__main__ import main


def test_only_what_is_always_said_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with only_verdict(True):
        say("Audit: no fault.")
        say("a-s0 failed: out of memory", always=True)
    say("after")
    with only_verdict(False):
        say("a line")
    assert capsys.readouterr().out.splitlines() == ["a-s0 failed: out of memory", "after", "a line"]


def test_a_quiet_grid_ends_with_its_verdict_and_its_address(tmp_path, monkeypatch, capsys):
    import mlflow
    import yaml

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("IMBALANCE_LAB_WORK", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 30)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_mapping()), encoding="utf-8")
    assert main(["run", "--experiment", "tiny.yaml", "--quiet", "--jobs", "1"]) == 0
    verdict, address = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Choose none")  # one seed on two recordings
    assert "Open with" in address
    mlflow.set_tracking_uri("")


def test_an_error_of_a_database_is_told_by_what_raises_it_alone(caplog: pytest.LogCaptureFixture) -> None:
    quiet()
    try:
        raise OSError("disk full")
    except OSError:
        logging.getLogger("mlflow.store.db.utils").exception("SQLAlchemy database error")
    assert caplog.records == []


def test_a_wrong_value_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--quiet", "perhaps"]) == 2
    assert "--quiet: found 'perhaps'; allowed are yes and no" in capsys.readouterr().err
