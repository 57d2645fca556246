"""Time and memory of the error analysis, against scikit-learn's three reports on the same data.

Command   python benchmarks/analysis.py [--positions 1000000] [--heads 4] [--counting-only] [--json FILE]
Duration  about half a minute at the default million positions x 4 heads on 2 cores; 10^7 with --counting-only: minutes,
          most of it spent drawing the data
Result    a table on stdout: seconds and peak memory of the counting pass, of the whole suite, of scikit-learn's
          classification_report + confusion_matrix + calibration_curve (of the top label, and one per class), and ratios
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.analysis.clusters import clusters_of
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.analysis.tally import BINS, tally_head
from imbalance_lab.predictions import HeadPredictions, Predictions

CLASSES = {"command": 11, "type": 4, "param_type": 8, "param_value": 10}


def make_predictions(n: int, heads: int, recordings: int = 100, error_rate: float = 0.1, seed: int = 0) -> Predictions:
    """Long-tailed labels in segments, errors at random; probabilities float32, drawn in place."""
    rng = np.random.default_rng(seed)
    length = 1000 if n >= 100_000 else 100
    n = n // length * length
    sequence = np.repeat(np.arange(n // length, dtype=np.int64), length)
    position = np.tile(np.arange(length, dtype=np.int32), n // length)
    from_end = (length - 1 - position).astype(np.int32)
    group = (sequence % recordings).astype(np.int32)
    operation = (group % 3).astype(np.int32)
    found = {}
    for name, k in list(CLASSES.items())[:heads]:
        prior = 0.5 ** np.arange(k)
        prior /= prior.sum()
        true = np.repeat(rng.choice(k, size=n // 10, p=prior).astype(np.int32), 10)
        top = np.where(rng.random(n, dtype=np.float32) < error_rate, rng.integers(0, k, n, dtype=np.int32), true)
        p = rng.random((n, k), dtype=np.float32)
        for i in range(0, n, 1 << 18):
            block = p[i : i + (1 << 18)]
            block[np.arange(len(block)), top[i : i + len(block)]] += 1.0 + 3.0 * rng.random(
                len(block), dtype=np.float32
            )
            block /= block.sum(axis=1, keepdims=True)
        pred = np.concatenate([p[i : i + (1 << 18)].argmax(axis=1).astype(np.int32) for i in range(0, n, 1 << 18)])
        found[name] = HeadPredictions(
            classes=tuple(f"G{i}" for i in range(k)),
            train_counts=(prior * 1e6).astype(np.int64),
            sequence=sequence,
            position=position,
            from_start=position,
            from_end=from_end,
            group=group,
            group_names=tuple(f"recording-{i:03d}" for i in range(recordings)),
            true=true,
            pred=pred,
            probabilities=p,
            slices={"operation": operation},
            slice_names={"operation": ("adaptive", "face", "pocket")},
        )
    return Predictions(found, {"split": "test"})


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """Least (wall, processor) seconds of ``repeats`` calls; other load on the machine leaves the latter alone."""
    wall, processor = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return min(wall), min(processor)


def peak_gib() -> float:
    """Peak resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def scikit_learn(predictions: Predictions, per_class: bool) -> None:
    """The three reports of scikit-learn for every head."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import classification_report, confusion_matrix

    for head in predictions.heads.values():
        classification_report(head.true, head.pred, output_dict=True, zero_division=0)
        confusion_matrix(head.true, head.pred)
        if per_class:
            for k in range(len(head.classes)):
                calibration_curve(head.true == k, head.probabilities[:, k], n_bins=BINS)
        else:
            confidence = head.probabilities[np.arange(len(head)), head.pred]
            calibration_curve(head.true == head.pred, confidence, n_bins=BINS)


def counting(predictions: Predictions) -> None:
    """The one-pass counts, binned scores included, of every head."""
    for head in predictions.heads.values():
        k = len(head.classes)
        tally_head(head, clusters_of(head, k * max(k, BINS)), binned_scores=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--heads", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--counting-only", action="store_true", help="leave out the suite and scikit-learn")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    predictions = make_predictions(arguments.positions, arguments.heads)
    result: dict[str, float] = {"positions": arguments.positions, "heads": arguments.heads, "data_gib": peak_gib()}
    run_suite(make_predictions(2000, 1), resamples=10)  # imports are not what is measured
    result["counting_s"], result["counting_cpu_s"] = timed(lambda: counting(predictions), arguments.repeats)
    result["counting_peak_gib"] = peak_gib()
    result["prepare_s"], _ = timed(lambda: [prepare(h, n) for n, h in predictions.heads.items()])
    if not arguments.counting_only:
        result["suite_s"], result["suite_cpu_s"] = timed(lambda: run_suite(predictions), arguments.repeats)
        result["suite_peak_gib"] = peak_gib()
        for name, per_class in (("top_label", False), ("per_class", True)):
            wall, processor = timed(lambda c=per_class: scikit_learn(predictions, c), arguments.repeats)
            result[f"sklearn_{name}_s"], result[f"sklearn_{name}_cpu_s"] = wall, processor
            result[f"ratio_{name}"] = result["suite_s"] / wall
            result[f"ratio_{name}_cpu"] = result["suite_cpu_s"] / processor
    for key, value in result.items():
        print(f"{key:<26}{value:>14,.3f}")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
