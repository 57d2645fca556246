"""Forward passes over permuted copies of the same windows, many permutations in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.interpretation.scored import ScoredSet, clusters
from imbalance_lab.models.inputs import Prepared

_MAX_CELLS = 4_000_000  # clusters x classes x classes of one pass's counts


@dataclass(frozen=True)
class Job:
    """One pass over all windows, in which ``continuous`` and ``categorical`` channels come from other windows.

    Window i gets them from window ``order[i]``; ``order`` (n,) None leaves the inputs as they are. ``steps``
    limits the exchange to those input steps. ``head_mask`` (heads,) goes to the attention layer.
    """

    order: NDArray[np.int64] | None = None
    continuous: tuple[int, ...] = ()
    categorical: tuple[int, ...] = ()
    steps: tuple[int, ...] | None = None
    head_mask: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Counting:
    """How confusion counts are kept: ``cluster`` (n,) of each window and ``n_clusters``, by head."""

    cluster: dict[str, NDArray[np.int64]]
    n_clusters: dict[str, int]


def counting_for(data: ScoredSet) -> Counting:
    """Clusters of recordings per head, fewer where a head has so many classes that counts would not fit.

    A head whose counts leave room for fewer than 20 clusters is counted in one.
    """
    cluster, n = {}, {}
    for head in data.targets:
        k = data.network.n_classes(head)
        room = _MAX_CELLS // (k * k)
        cluster[head], n[head] = clusters(data.recording, 200 if room >= 200 else room if room >= 20 else 1)
    return Counting(cluster, n)


@torch.inference_mode()
def confusions_of(data: ScoredSet, jobs: Sequence[Job], counting: Counting) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Confusion counts of each job, in order: head to int64 (n_clusters, K, K), rows true, columns predicted.

    Copies of the windows are stacked, so that a batch holds windows of several jobs.
    """
    n, size = len(data), data.rows_per_pass()
    sizes = {head: data.network.n_classes(head) for head in data.targets}
    code = {head: torch.from_numpy(c).to(data.device) for head, c in counting.cluster.items()}
    open_counts: dict[int, dict[str, Tensor]] = {}
    done = 0
    # Jobs with different attention masks cannot share a batch.
    for masked, first, last in _runs(jobs):
        mask = None if masked is None else torch.tensor(masked, device=data.device)
        for start in range(first * n, last * n, size):
            stop = min(start + size, last * n)
            flat = torch.arange(start, stop, device=data.device)
            job_of, row_of = flat // n, flat % n
            output = data.network.run(_stack(data, jobs, start, stop, row_of), head_mask=mask)
            ids = range(start // n, (stop - 1) // n + 1)
            for head, logits in output.logits.items():
                k = sizes[head]
                cells = counting.n_clusters[head] * k * k
                target = data.targets[head][row_of]
                cell = target * k + logits.argmax(dim=-1)
                cell += (code[head][row_of] * k * k + (job_of - ids[0]) * cells)[:, None]
                counts = _counted(cell, target != IGNORE, len(ids) * cells).view(len(ids), -1)
                for i, j in enumerate(ids):
                    job_counts = open_counts.setdefault(j, {})
                    job_counts[head] = counts[i] + job_counts.get(head, 0)
            while done * n + n <= stop:
                finished = open_counts.pop(done)
                yield {
                    head: c.view(counting.n_clusters[head], sizes[head], sizes[head]).cpu().numpy()
                    for head, c in finished.items()
                }
                done += 1


def _counted(cell: Tensor, kept: Tensor, cells: int) -> Tensor:
    """How often each of ``cells`` occurs where ``kept``, int64 (cells,); the host waits for nothing."""
    flat = torch.where(kept, cell, cells).flatten()
    counts = torch.zeros(cells + 1, dtype=torch.int64, device=cell.device)
    return counts.scatter_add_(0, flat, torch.ones_like(flat))[:-1]


def _runs(jobs: Sequence[Job]) -> Iterator[tuple[tuple[float, ...] | None, int, int]]:
    """(head_mask, first, last) of the stretches of jobs with one mask."""
    start = 0
    for i in range(1, len(jobs) + 1):
        if i == len(jobs) or jobs[i].head_mask != jobs[start].head_mask:
            yield jobs[start].head_mask, start, i
            start = i


def _stack(data: ScoredSet, jobs: Sequence[Job], start: int, stop: int, row_of: Tensor) -> Prepared:
    n = len(data)
    values, observed, categorical = (x.index_select(0, row_of) for x in data.inputs)
    for j in range(start // n, (stop - 1) // n + 1):
        job = jobs[j]
        if job.order is None:
            continue
        first, last = max(start, j * n), min(stop, (j + 1) * n)
        there = slice(first - start, last - start)
        donor = torch.from_numpy(job.order[first - j * n : last - j * n]).to(data.device)
        for into, source, columns in (
            (values, data.inputs.values, job.continuous),
            (observed, data.inputs.observed, job.continuous),
            (categorical, data.inputs.categorical, job.categorical),
        ):
            if not columns:
                continue
            c = torch.tensor(columns, device=data.device)
            if job.steps is None:
                into[there][:, :, c] = source[:, :, c].index_select(0, donor)
            else:
                s = torch.tensor(job.steps, device=data.device)[:, None]
                into[there][:, s, c] = source[:, s, c].index_select(0, donor)
    return Prepared(values, observed, categorical)
