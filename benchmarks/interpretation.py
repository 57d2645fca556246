"""Does interpretation find the channels that cause a command? Ground truth: the simulated mill.

    python benchmarks/interpretation.py --seeds 10 --out docs/benchmarks/interpretation.csv

Each seed simulates its own recordings, trains a small network on them, and ranks the channels by
permutation importance and by integrated gradients on test recordings; the same network with weights
drawn afresh is the control. The setting makes the ground truth unambiguous: the four commands are
equally frequent, sensor noise is low, and everything that follows the programme exactly (positions,
controller states) is left out. So are the motor currents: all of them are causal, and with no
nuisance among them they can show nothing (a randomised network favours them too, because a group
of few channels starts with larger weights). Two sensor frames of 17 channels remain, of which
``imbalance_lab.simulator.mill.causal_channels`` names the four each that carry a command.

Duration: about a quarter of a minute per seed on one core. All numbers are of simulated recordings.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from imbalance_lab.data.dataset import LoadedData, SequenceDataset
from imbalance_lab.interpretation.attribution import attribute, channel_table
from imbalance_lab.interpretation.passes import counting_for
from imbalance_lab.interpretation.permutation import permutation_importance
from imbalance_lab.interpretation.permuted_inputs import channels
from imbalance_lab.interpretation.randomised import randomised
from imbalance_lab.interpretation.scored import ScoredSet, choose_cases, choose_windows, make_scored, subset
from imbalance_lab.learners.network_learner import prepare_network
from imbalance_lab.load import load_data
from imbalance_lab.metrics.counts import metric_by_name
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.network import Network
from imbalance_lab.simulator.mill import causal_channels
from imbalance_lab.simulator.mill_options import SimulatedOptions
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.training.fit import Selection
from imbalance_lab.training.training_config import TrainingConfig

HEAD = "command"
CONTROLLER = ("line", "pos*", "mpo*", "feed", "momo", "stat", "unit", "dist", "coor")
CURRENTS = ("spindle", "spindle_A", "*_motor", "*_motor_A")


def setting(seed: int, n_recordings: int = 24) -> SimulatedOptions:
    """Equally frequent commands, a third of the real noise, sensors only."""
    return SimulatedOptions(
        source="simulated",
        n_recordings=n_recordings,
        rows_per_recording=200,
        imbalance_ratio=1.0,
        noise=0.3,
        n_frames=2,
        seed=seed,
        exclude=CONTROLLER + CURRENTS,
    )


def causal(options: SimulatedOptions) -> set[str]:
    """Names of the channels that carry G0, G1, G2 or G3."""
    causes = causal_channels(options.mill())
    return {channel for command, pairs in causes.items() if command != "none" for channel, _ in pairs}


def trained(loaded: LoadedData, seed: int, epochs: int, hidden: int = 32) -> tuple[ScoredSet, Network, float]:
    """The test split, a network trained with cross-entropy, and its validation macro F1."""
    dataset, train = loaded.dataset, loaded.splits.train
    targets = {head: np.asarray(t[train]) for head, t in dataset.targets.items()}
    strategy = bind(
        parse_strategy("cross-entropy", {}, where="benchmark"),
        heads=dataset.heads,
        targets=targets,
        primary=HEAD,
        seed=seed,
    )
    model = ModelConfig(hidden=hidden, attention_heads=2)
    config = TrainingConfig(epochs=epochs, batch_size=16, learning_rate=5e-3, device="cpu", precision="float32")
    trial = prepare_network(loaded, strategy, model, config, seed)
    best = max(e.score for e in trial.train(Selection(HEAD, metric_by_name("macro_f1"))))
    return make_scored(trial.network, dataset, loaded.splits.test), trial.network, best


def rankings(data: ScoredSet, dataset: SequenceDataset, seed: int) -> tuple[dict[str, list[str]], pd.DataFrame]:
    """Channels by importance, first the most important, for each method; ties in random order.

    Also the table of permutation importance.
    """
    few = subset(data, choose_windows(data.recording, 60, seed))
    names = dataset.channels
    found = permutation_importance(few, channels(dataset), counting_for(few), seed=seed).table
    found = found[(found["head"] == HEAD) & (found["kind"] == "channel")]
    found = found.sample(frac=1, random_state=seed).sort_values("drop", ascending=False, kind="stable")
    classes = dataset.heads[HEAD]
    target = data.targets[HEAD].cpu().numpy()
    cases = choose_cases(target, data.recording, len(classes), 12, seed)
    table = channel_table(attribute(data, HEAD, cases, steps=32), names, classes, seed)
    table = table[table["class"] == "all"]
    out = {"permutation": found["feature"].tolist()}
    for method in ("integrated gradients", "saliency"):
        out[method] = table[table["method"] == method].sort_values("share", ascending=False)["channel"].tolist()
    return out, found


def precision_at(ranking: list[str], truth: set[str], k: int) -> float:
    """Share of the first ``k`` channels that are causal."""
    return float(np.mean([name in truth for name in ranking[:k]]))


def ranking_auc(ranking: list[str], truth: set[str]) -> float:
    """Chance that a causal channel stands before one that is not (1 perfect, 0.5 random)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([name in truth for name in ranking], -np.arange(len(ranking))))


def one_seed(seed: int, epochs: int) -> list[dict[str, object]]:
    """Rows of one seed: trained and randomised network, each method."""
    options = setting(seed)
    truth = causal(options)
    loaded = load_data(options)
    data, own, score = trained(loaded, seed, epochs)
    names = loaded.dataset.channels
    truth &= set(names)
    rows: list[dict[str, object]] = []
    for network, those in (("trained", data), ("randomised", replace(data, network=randomised(own, seed)))):
        ranked, importance = rankings(those, loaded.dataset, seed)
        certain = importance.loc[importance["counts"], "feature"].tolist()
        for method, ranking in ranked.items():
            permuted = method == "permutation"
            rows.append(
                {"seed": seed, "network": network, "method": method, "val_macro_f1": score}
                | {f"precision_at_{k}": precision_at(ranking, truth, k) for k in (1, 3, 5, 8)}
                | {"auc": ranking_auc(ranking, truth), "base_rate": len(truth) / len(names), "channels": len(names)}
                | {
                    "largest_drop": importance["drop"].max() if permuted else np.nan,
                    "above_0": len(certain) if permuted else np.nan,
                    "above_0_causal": sum(c in truth for c in certain) if permuted else np.nan,
                }
                | {"first": " ".join(ranking[:5])}
            )
    return rows


def main() -> None:
    """Run the seeds and print means with their standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for seed in range(arguments.seeds):
        begun = time.perf_counter()
        rows += one_seed(seed, arguments.epochs)
        table = pd.DataFrame(rows)
        print(table[table["seed"] == seed].round(3).to_string(index=False), flush=True)
        print(f"seed {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(arguments.out, index=False)
    numbers = [
        "val_macro_f1",
        *(f"precision_at_{k}" for k in (1, 3, 5, 8)),
        "auc",
        "largest_drop",
        "above_0",
        "above_0_causal",
    ]
    summary = pd.DataFrame(rows).groupby(["network", "method"], sort=False)[numbers].agg(["mean", "std"])
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
