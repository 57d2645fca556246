"""Time and memory of the error analysis, against scikit-learn's three reports on the same data.

Command   python benchmarks/analysis.py [--positions 1000000] [--heads 4] [--counting-only] [--json FILE]
          python benchmarks/analysis.py --coverage 400 [--json FILE]
Duration  about half a minute at the default million positions x 4 heads on 2 cores; 10^7 with --counting-only: minutes,
          most of it spent drawing the data
Result    a table on stdout: seconds and peak memory of the counting pass, of the whole suite, of scikit-learn's
          classification_report + confusion_matrix + calibration_curve, and ratios: with one curve of the top label
          (ratio_top_label, the stricter reading) and with one per class (ratio_per_class).
          With --coverage: how often the 95 % intervals of the calibration scores hold the value of the population, for
          models from calibrated to overconfident, few and many recordings (minutes)
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.analysis.confidence import confidence_analysis
from imbalance_lab.analysis.prepared import prepare
from imbalance_lab.analysis.suite import run_suite
from imbalance_lab.analysis.tally import BINS, tally_head
from imbalance_lab.metrics.clusters import clusters_of
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


def clustered_head(
    rng: np.random.Generator, recordings: int, size: int, sharpness: float, spread: float, k: int = 3
) -> HeadPredictions:
    """Positions of recordings whose labels drift off the model's logits by a normal shift of their own.

    Parameters
    ----------
    sharpness : factor on the logits of the model; 1 is calibrated but for the shifts, above is overconfident
    spread : standard deviation of the shifts, in logits
    """
    n = recordings * size
    z = 1.6 * rng.normal(size=(n, k)) + np.linspace(1.5, -0.8, k)
    q = np.exp(z + np.repeat(rng.normal(0, spread, size=(recordings, k)), size, axis=0))
    q /= q.sum(axis=1, keepdims=True)
    true = (rng.random((n, 1)) > q.cumsum(axis=1)).sum(axis=1).clip(0, k - 1).astype(np.int32)
    p = np.exp(sharpness * z)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    place = np.tile(np.arange(size, dtype=np.int32), recordings)
    group = np.repeat(np.arange(recordings, dtype=np.int32), size)
    return HeadPredictions(
        classes=tuple(f"G{i}" for i in range(k)),
        train_counts=np.bincount(true, minlength=k),
        sequence=group.astype(np.int64),
        position=place,
        from_start=place,
        from_end=(size - 1 - place).astype(np.int32),
        group=group,
        group_names=tuple(f"recording-{i}" for i in range(recordings)),
        true=true,
        pred=p.argmax(axis=1).astype(np.int32),
        probabilities=p,
    )


def _calibration_table(head: HeadPredictions, resamples: int, seed: int) -> pd.DataFrame:
    """value, low, high by name: scores, ECE of each class, accuracy of each bin of equal width with 20 positions."""
    found = confidence_analysis(prepare(head, resamples=resamples, seed=seed))
    bins = found.reliability.query("kind == 'width' and count >= 20")
    parts = [
        found.scores.set_axis(found.scores["metric"]),
        found.classwise.rename(columns={"ece": "value"}).set_axis("ece of " + found.classwise["class"]),
        bins.rename(columns={"accuracy": "value"}).set_axis("bin to " + bins["bin_high"].round(2).astype(str)),
    ]
    return pd.concat([part[["value", "low", "high"]] for part in parts])


def calibration_coverage(
    simulations: int, recordings: int, size: int, sharpness: float, spread: float, resamples: int = 400, seed: int = 0
) -> pd.DataFrame:
    """How often intervals hold the population's value; that comes from 3 million positions of 6,000 recordings.

    Returns
    -------
    DataFrame by name: truth, value (mean over simulations), covered (share), below (share of intervals that end
    below the truth), width, simulations (in which the row occurs)
    """
    rng = np.random.default_rng(seed)
    truth = _calibration_table(clustered_head(rng, 6000, 500, sharpness, spread), 0, 0)["value"]
    drawn = [
        _calibration_table(clustered_head(rng, recordings, size, sharpness, spread), resamples, i)
        for i in range(simulations)
    ]
    every = pd.concat(drawn).join(truth.rename("truth"), how="inner")
    every["below"] = every["high"] < every["truth"]
    every["covered"] = (every["low"] <= every["truth"]) & ~every["below"]
    every["width"] = every["high"] - every["low"]
    by_name = every.groupby(level=0, sort=False)
    return by_name.mean()[["truth", "value", "covered", "below", "width"]].assign(simulations=by_name.size())


def print_coverage(simulations: int, file: Path | None) -> None:
    """Coverage tables of the scenarios, on stdout and, as rows, in ``file``."""
    rows = []
    for recordings in (20, 60):
        for sharpness, spread in ((1.0, 0.0), (1.0, 0.3), (1.15, 0.3), (1.5, 0.3), (2.5, 0.3)):
            table = calibration_coverage(simulations, recordings, 200, sharpness, spread)
            print(f"{recordings} recordings of 200 positions, sharpness {sharpness}, spread {spread}")
            print(table.round(4).to_string(), flush=True)
            about = {"recordings": recordings, "sharpness": sharpness, "spread": spread}
            rows += [{**about, "name": name, **row} for name, row in table.to_dict("index").items()]
    if file:
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


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
        tally_head(head, clusters_of(head.group, len(head.group_names), k * max(k, BINS)), binned_scores=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--heads", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--counting-only", action="store_true", help="leave out the suite and scikit-learn")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--coverage", type=int, default=0, metavar="N", help="N simulations of calibration intervals")
    arguments = parser.parse_args()
    if arguments.coverage:
        print_coverage(arguments.coverage, arguments.json)
        return
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
            wall, processor = timed(partial(scikit_learn, predictions, per_class), arguments.repeats)
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
