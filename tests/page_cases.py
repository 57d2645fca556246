"""Predictions for the tests of pages, and a reader that checks the nesting of their HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from imbalance_lab.predictions import HeadPredictions, Predictions

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Checks nesting and collects what the assertions need."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> without a start"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.stack == []
    return reader


def predictions(k: int = 4, n: int = 1200, classes: tuple[str, ...] | None = None, heads: int = 1) -> Predictions:
    """A 90 % majority; probabilities of a noisy classifier that leans to it."""
    rng = np.random.default_rng(k)
    names = classes or tuple(f"C{i}" for i in range(k))
    prior = np.r_[0.9, np.full(k - 1, 0.1 / max(1, k - 1))]
    made = {}
    for i in range(heads):
        true = rng.choice(k, n, p=prior / prior.sum()).astype(np.int32)
        logits = np.log(prior) + 4 * np.eye(k)[true] + rng.normal(0, 1.2, (n, k))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        group = (np.arange(n) // (n // 6)).clip(0, 5).astype(np.int32)
        place = (np.arange(n) % (n // 6)).astype(np.int32)
        made[f"head{i}"] = HeadPredictions(
            classes=names,
            train_counts=np.bincount(true, minlength=k).astype(np.int64),
            sequence=group.astype(np.int64),
            position=place,
            from_start=place,
            from_end=(n // 6 - 1 - place).astype(np.int32),
            group=group,
            group_names=tuple(f"rec{j}" for j in range(6)),
            true=true,
            pred=p.argmax(1).astype(np.int32),
            probabilities=p.astype(np.float32),
            slices={"operation": (group % 2).astype(np.int32)},
            slice_names={"operation": ("face", "pocket")},
        )
    return Predictions(made, {"split": "test", "strategy": "focal-2", "seed": 0, "temperature": {"head0": 1.3}})
