"""Ground truth: on the simulated mill the channels that cause a command must come first, and only after training."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imbalance_lab.interpretation.randomised import randomised
from imbalance_lab.load import load_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_interpretation", ROOT / "benchmarks" / "interpretation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def mill(benchmark):
    options = benchmark.setting(0)
    loaded = load_data(options)
    data, _, score = benchmark.trained(loaded, 0, epochs=12)
    return loaded, data, score, benchmark.causal(options) & set(loaded.dataset.channels)


def test_causal_channels_come_first_after_training_only(benchmark, mill):
    loaded, data, score, truth = mill
    assert score > 0.9
    assert len(truth) == 8
    assert len(loaded.dataset.channels) == 34
    found, importance = benchmark.rankings(data, loaded.dataset, 0)
    for method, ranking in found.items():
        assert benchmark.precision_at(ranking, truth, 3) == 1, method
    for method in ("integrated gradients", "saliency"):
        assert benchmark.ranking_auc(found[method], truth) > 0.85
    random = replace(data, network=randomised(data.network, 0))
    by_chance, unimportant = benchmark.rankings(random, loaded.dataset, 0)
    for method in ("integrated gradients", "saliency"):
        assert benchmark.ranking_auc(by_chance[method], truth) < benchmark.ranking_auc(found[method], truth) - 0.1
    assert unimportant["drop"].max() < 0.3 * importance["drop"].max()


def test_the_page_and_its_files_say_that_the_data_are_simulated(mill, tmp_path):
    from imbalance_lab.run.trial_files import write_interpretation

    loaded, data, _, truth = mill
    sentence = write_interpretation(data.network, loaded, tmp_path, budget="quick", seed=0, title="mill")
    assert "macro F1" in sentence
    found = json.loads((tmp_path / "interpretation.json").read_text(encoding="utf-8"))
    assert found["meta"]["simulated"] is True
    assert found["summary"][0].startswith("These are simulated recordings")
    assert found["integrated_gradients"]["relative_convergence_delta"] < 0.05
    permutation = found["tables"]["permutation"]
    assert permutation["data"][0][permutation["columns"].index("head")] == "command"
    html = (tmp_path / "report" / "interpretation.html").read_text(encoding="utf-8")
    assert "These are simulated recordings" in html
    assert html.count("<img") == len(list((tmp_path / "figures").glob("interpretation_*.png")))
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        "interpretation_importance_groups.png",
        "interpretation_moments.png",
    }
    assert not (tmp_path / "tables").exists()
    assert {"attribution_cases", "embedding_points", "difficulty"} <= set(found["tables"])
    channels = found["tables"]["attribution_channels"]
    first = channels["data"][0][channels["columns"].index("channel")]
    assert first in truth
