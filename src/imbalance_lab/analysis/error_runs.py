"""Do errors come in runs? Consecutive errors at true neighbours against a within-chain permutation null."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.metrics.clusters import MIN_POSITIONS

MAX_LENGTH = 20


@dataclass(frozen=True)
class ErrorRuns:
    """Result of :func:`error_runs`.

    ``runs`` fewer than ``expected_runs`` means that errors stick together: their mean length is
    then above ``expected_mean_length``. ``lengths``: length, runs, expected; the last row is
    "``MAX_LENGTH`` or more".
    """

    verdict: str
    errors: int
    runs: int
    expected_runs: float
    mean_length: float
    expected_mean_length: float
    longest: int
    z: float
    p: float
    lengths: pd.DataFrame
    chains: int
    repeated_left_out: int


def run_lengths(wrong: NDArray[np.bool_], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Length of each run of consecutive errors, in chain order."""
    at = np.flatnonzero(wrong)
    begins = first[at]
    begins[:1] = True
    begins[1:] |= np.diff(at) != 1
    return np.diff(np.append(np.flatnonzero(begins), len(at)))


def _expected_lengths(n: NDArray[np.int64], e: NDArray[np.int64], longest: int) -> NDArray[np.float64]:
    """Expected runs of length 1 .. longest over chains of n places with e errors, all orders equally likely.

    With m = n - e right places a run of length l has E = (m + 1) C(n - l - 1, m - 1) / C(n, m) for
    m >= 1 and is the whole chain for m = 0 (Mood 1940).
    """
    from scipy.special import gammaln

    pairs, repeats = np.unique(np.stack([n, e]), axis=1, return_counts=True)
    n, e = pairs[:, pairs[1] > 0].astype(np.float64)
    repeats = repeats[pairs[1] > 0]
    m = n - e
    out = np.zeros(longest)
    mixed = m > 0
    for length in range(1, longest + 1):
        fits = mixed & (e >= length)
        a, b, f = n[fits], m[fits], repeats[fits]
        log_ways = gammaln(a - length) - gammaln(b) - gammaln(a - length - b + 1)
        log_all = gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)
        out[length - 1] = (f * (b + 1) * np.exp(log_ways - log_all)).sum() + repeats[(m == 0) & (e == length)].sum()
    return out


def error_runs(prepared: Prepared) -> ErrorRuns:
    """Runs of errors against the exact moments under permutation of the errors within each chain.

    The number of runs of e errors among n places has mean e (n - e + 1) / n and variance
    e (e - 1) (n - e + 1) (n - e) / (n^2 (n - 1)) (Wald and Wolfowitz 1940); chains are independent,
    so both add up. No permutation is drawn.
    """
    from scipy.stats import norm

    chains = prepared.chains
    wrong = np.asarray(chains.take(prepared.wrong))
    at = np.flatnonzero(chains.first)
    n = np.diff(np.append(at, len(wrong)))
    e = np.add.reduceat(wrong, at, dtype=np.int64) if len(at) else np.empty(0, dtype=np.int64)
    lengths = run_lengths(wrong, chains.first)
    errors, runs = int(e.sum()), len(lengths)
    expected = e * (n - e + 1) / n
    variance = e * (e - 1) * (n - e + 1) * (n - e) / (n.astype(np.float64) ** 2 * np.maximum(n - 1, 1))
    mean, spread = float(expected.sum()), float(np.sqrt(variance.sum()))
    z = (runs - mean) / spread if spread > 0 else float("nan")
    shown = np.bincount(np.minimum(lengths, MAX_LENGTH), minlength=MAX_LENGTH + 1)[1:]
    null = _expected_lengths(n, e, MAX_LENGTH)
    null[-1] = max(mean - null[:-1].sum(), 0.0)
    if not (n > 1).any():
        verdict = "not applicable: no position has a scored neighbour"
    elif errors < MIN_POSITIONS or spread == 0:
        verdict = "insufficient"
    else:
        p_low, p_high = norm.cdf(z), norm.sf(z)
        verdict = "runs" if p_low < 0.01 else "alternating" if p_high < 0.01 else "no runs beyond chance"
    return ErrorRuns(
        verdict=verdict,
        errors=errors,
        runs=runs,
        expected_runs=mean,
        mean_length=errors / runs if runs else float("nan"),
        expected_mean_length=errors / mean if mean else float("nan"),
        longest=int(lengths.max()) if runs else 0,
        z=z,
        p=float(2 * norm.sf(abs(z))) if np.isfinite(z) else float("nan"),
        lengths=pd.DataFrame({"length": np.arange(1, MAX_LENGTH + 1), "runs": shown, "expected": null}),
        chains=len(at),
        repeated_left_out=chains.repeated,
    )
