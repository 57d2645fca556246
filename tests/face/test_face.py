"""The public face: its documents run, it is light to import, and its names and submodules live together."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import imbalance_lab as il
from imbalance_lab import face, loop
from imbalance_lab.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"


def test_recipes_and_docstrings_run() -> None:
    result = doctest.testfile(str(DOCS / "python.md"), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0
    for module in (face, loop):
        result = doctest.testmod(module)
        assert result.attempted > 1
        assert result.failed == 0


def test_import_brings_no_torch_and_submodules_do_not_hide_names() -> None:
    code = (
        "import sys, imbalance_lab as il; assert not {'torch', 'sklearn', 'matplotlib'} & set(sys.modules);"
        "[getattr(il, name) for name in il.__all__];"
        "import imbalance_lab.audit.finding; assert callable(il.run_audit) and il.audit.finding.Finding;"
        "assert all(callable(getattr(il, name)) and name in dir(il) for name in il.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sampler_by_catalogue_name_balances() -> None:
    y = np.array([0] * 900 + [1] * 100)
    drawn = list(il.bind("class-balanced", targets=y, classes=("a", "b")).sampler())
    assert 0.4 < y[drawn].mean() < 0.6


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(InputError, match="found 'c'; allowed: a, b"):
        il.bind("focal", targets=["a", "c"], classes=("a", "b"))
    with pytest.raises(InputError, match="found class id 2"):
        il.bind("focal", targets=[0, 2], classes=("a", "b"))
    with pytest.raises(InputError, match="unknown strategy 'foca'"):
        il.bind("foca", targets=[0, 1], classes=("a", "b"))
    with pytest.raises(InputError, match="predicted"):
        il.make_predictions([0, 1], [0, 2], ("a", "b"))


def test_a_loss_of_features_asks_for_them() -> None:
    strategy = il.bind("influence-balanced", targets=[0, 1, 1], classes=("a", "b"))
    logits, target = torch.zeros(3, 2), torch.tensor([0, 1, 1])
    with pytest.raises(InputError, match="features"):
        strategy.loss(logits, target)
    assert strategy.loss(logits, target, features={"target": torch.ones(3, 4)}).item() > 0
