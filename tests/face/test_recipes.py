"""The recipes of docs/python.md for other people's loops, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import imbalance_lab as il
import mlflow_project
from imbalance_lab.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "python.md"


def recipe(title: str) -> str:
    """The code under a heading of the document."""
    found = re.search(rf"^### {re.escape(title)}\n.*?^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


class TwoHeads(nn.Module):
    """Rows (B, 3) to logits of two places and of one: (B, 2, 2) and (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.command, self.axis = nn.Linear(3, 4), nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"command": self.command(rows).unflatten(-1, (2, 2)), "axis": self.axis(rows)}


class Rows(Dataset[Any]):
    """Rows with targets of one head or of several."""

    def __init__(self, x: Tensor, y: Tensor | dict[str, Tensor]) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Any:
        return self.x[row], {h: t[row] for h, t in self.y.items()} if isinstance(self.y, dict) else self.y[row]


def ingredients(heads: str) -> dict[str, Any]:
    """What every recipe starts from: rows of two classes, one of them rare, and a small network.

    The strategy draws both classes equally often first and as they are later; of several heads one is masked in part.
    """
    torch.manual_seed(0)
    y = torch.tensor([0] * 450 + [1] * 50)
    x = torch.randn(len(y), 3) + y[:, None]
    if heads == "one head":
        strategy = il.bind("curriculum", targets=y.numpy(), classes=("ok", "scrap"))
        return {"network": nn.Linear(3, 2), "dataset": Rows(x, y), "x": x, "y": y, "strategy": strategy}
    both = {"command": torch.stack([y, torch.full_like(y, -100)], dim=1), "axis": torch.arange(len(y)) % 2}
    names = {"command": ("ok", "scrap"), "axis": ("X", "Y")}
    strategy = il.bind("curriculum", targets={h: t.numpy() for h, t in both.items()}, classes=names)
    return {"network": TwoHeads(), "dataset": Rows(x, both), "x": x, "y": both, "strategy": strategy}


PACKAGES = {"Lightning": "lightning", "Hugging Face Trainer": "transformers", "skorch": "skorch"}


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:.*LeafSpec:FutureWarning", "ignore:::transformers")
@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
@pytest.mark.parametrize("heads", ["one head", "two heads, one masked"])
@pytest.mark.parametrize("title", ["Plain PyTorch", *PACKAGES])
def test_a_recipe_trains(title: str, heads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if title in PACKAGES:
        pytest.importorskip(PACKAGES[title], reason=f"{PACKAGES[title]} is not installed; pip install .[loops]")
    monkeypatch.chdir(tmp_path)
    given = ingredients(heads)
    progress_of, drawn = list[float](), list[Tensor]()
    counted = given["strategy"].loss

    def loss(logits: Any, target: Any, *, progress: float) -> Tensor:
        progress_of.append(progress)
        drawn.append(target if isinstance(target, Tensor) else target["command"][:, 0])
        return counted(logits, target, progress=progress)

    monkeypatch.setattr(given["strategy"], "loss", loss)
    before = {name: value.clone() for name, value in given["network"].state_dict().items()}
    exec(recipe(title), given)
    for name, value in given["network"].state_dict().items():
        assert torch.isfinite(value).all()
        assert (value != before[name]).any(), name
    assert progress_of == sorted(progress_of)
    assert 0.0 == progress_of[0] < progress_of[-1] < 1.0
    epochs = torch.cat(drawn).reshape(-1, len(given["dataset"])).float().mean(dim=1)
    assert 0.4 < epochs[0] < 0.6  # both classes equally often
    assert 0.05 < epochs[-1] < 0.15  # as they are


def test_a_sampler_asks_for_the_progress_at_each_epoch() -> None:
    y = np.array([0] * 900 + [1] * 100)
    progress = [0.0]
    strategy = il.bind("curriculum", targets=y, classes=("a", "b"))
    sampler = strategy.sampler(lambda: progress[0])
    assert 0.4 < y[list(sampler)].mean() < 0.6
    progress[0] = 0.9
    assert y[list(sampler)].mean() == pytest.approx(0.1)


def test_collapse_is_told_from_a_model_that_predicts_both() -> None:
    target = torch.tensor([[0, 1, -100], [1, 0, 0]])
    one, both = torch.zeros(2, 3, 2), torch.nn.functional.one_hot(target.clamp(min=0), 2).float()
    one[..., 1] = 1
    assert il.collapse(one, target).collapsed
    found = il.collapse(both.requires_grad_(), target)
    assert not found.collapsed
    assert found.classes_predicted == 2
    assert not il.collapse([[0.1, 0.9]], [1]).collapsed  # the labels hold one class
    heads = il.collapse({"a": one, "b": both}, {"a": target, "b": target})
    assert {head: spread.collapsed for head, spread in heads.items()} == {"a": True, "b": False}
    for wrong in (target, {"a": target}):
        with pytest.raises(InputError, match="collapse: found outputs of heads"):
            il.collapse({"a": one, "b": both}, wrong)
    with pytest.raises(InputError, match="collapse: found outputs"):
        il.collapse(one, target[:, 0])
    with pytest.raises(InputError, match="class id outside 0 to 1"):
        il.collapse(one, target + 7)


def test_the_suite_goes_into_the_active_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    true = {"command": rng.integers(0, 3, (40, 5)), "axis": rng.integers(0, 2, 40)}
    p = {head: rng.dirichlet(np.ones(k), y.shape) for (head, y), k in zip(true.items(), (3, 2), strict=True)}
    true["command"][:, 0] = -100
    names = {"command": ("G0", "G1", "G2"), "axis": ("X", "Y")}
    monkeypatch.setattr("imbalance_lab.plots.style.DPI", 40)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        mlflow.create_experiment("loop", artifact_location=(tmp_path / "artifacts").as_uri())
        mlflow.set_experiment("loop")
        with pytest.raises(InputError, match="no MLflow run is active"):
            mlflow_project.log_error_analysis(true, p, classes=names)
        with mlflow.start_run() as run:
            with pytest.raises(InputError, match="heads: found"):
                mlflow_project.log_error_analysis({"axis": true["axis"]}, p, classes=names)
            verdict = mlflow_project.log_error_analysis(true, p, classes=names, groups=np.arange(40) // 4)
            assert mlflow.active_run() is not None
        client = mlflow.MlflowClient()
        logged = client.get_run(run.info.run_id)
        assert logged.data.tags["imbalance.verdict"] == verdict != ""
        expected = (p["axis"].argmax(1) == true["axis"]).mean()
        assert logged.data.metrics["test/axis/accuracy"] == pytest.approx(expected)
        folder = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/predictions/test.parquet")
        table = il.read_parquet(Path(folder))
        assert {head: len(t) for head, t in table.heads.items()} == {"command": 160, "axis": 40}
        assert set(table.heads["command"].position.tolist()) == {1, 2, 3, 4}
        assert len(table.heads["command"].group_names) == 10
        assert (Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/report")) / "index.html").is_file()
    finally:
        mlflow.set_tracking_uri("")
