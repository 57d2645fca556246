"""The cards of docs/strategies, generated from the docstrings of the registered options.

``python -m imbalance_lab.strategies.language.option_cards docs/strategies`` writes them; with ``--check`` it
only says whether they are up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from imbalance_lab.strategies.language import registry
from imbalance_lab.strategies.language.registry import REGISTRY, Entry

SECTIONS = ("What", "When", "Suggested values", "Cost", "Source")
"""What every card says, in this order."""

SLOTS: Mapping[str, tuple[str, str]] = {
    "weights": ("Class weights", "Scaled to mean 1 over the training data; a class without examples weighs 0."),
    "loss": ("Losses", "Each is the mean over scored positions and takes the `weights` slot."),
    "sampler": ("Samplers", "They choose training sequences; `head` names the head to balance, else the primary one."),
    "schedule": ("Schedules", "Besides these, `schedule` takes a list of phases: `[{for: 0.5, sampler: ...}, ...]`."),
    "head": ("Heads", "The classifier's kind. `head: crt`, `lws` and `tau-norm` are read as the entries of that name."),
    "augment": ("Augmentation", "Mixing of two training sequences."),
    "posthoc": ("After training", "Fitted on validation alone; several may be listed and are applied in order."),
    "table": ("Tables", "Classical strategies for the table and digits sources; no network is trained."),
}


def sections(entry: Entry) -> dict[str, str]:
    """Text of each of :data:`SECTIONS` in the entry's docstring; one that is missing is left out."""
    text = entry.options.__doc__ or ""
    parts = re.split(rf"^ *({'|'.join(SECTIONS)}): ", text, flags=re.M)
    return {name: " ".join(body.split()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _example(entry: Entry) -> str:
    if entry.shorthand == "ratio":
        return f"{entry.slot}: {{{entry.name}: 10}}"
    if entry.shorthand is not None:
        return f"{entry.slot}: {{{entry.name}: {{G0: 0.1, G1: 1.0}}}}"
    options = {k: v for k, v in registry.defaults(entry).items() if v is not None}
    if not options:
        return f"{entry.slot}: {entry.name}"
    inner = ", ".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in options.items())
    return f"{entry.slot}: {{{entry.name}: {{{inner}}}}}"


def card(entry: Entry) -> str:
    """The card of one entry in Markdown."""
    lines = [f"## {entry.name}", "", entry.summary, ""]
    lines += [f"- **{name}**: {text}" for name, text in sections(entry).items()]
    space = "; ".join(f"`{option}` {d}" for option, d in entry.search.items())
    lines += [f"- **Search space**: {space or 'nothing to tune'}.", "", "```yaml", _example(entry), "```", ""]
    return "\n".join(lines)


def page(slot: str) -> str:
    """All cards of one slot in Markdown."""
    title, lead = SLOTS[slot]
    cards = [card(e) for e in REGISTRY if e.slot == slot]
    return "\n".join([f"# {title}", "", lead, "", *cards]).rstrip("\n") + "\n"


def index() -> str:
    """The list of all entries with their one-line cards, in Markdown."""
    lines = [
        "# Strategies",
        "",
        "Generated from the docstrings by `python -m imbalance_lab.strategies.language.option_cards docs/strategies`.",
        "",
        "A strategy fills any of the slots below, for all heads or, under `heads:`, for one. Corrections of the class",
        "prior are added up; two that together exceed power 1 need `allow_double_correction: true`. An empty strategy",
        "is plain cross-entropy, and every run is scored a second time after post-hoc logit adjustment tuned on",
        "validation: the free-lunch control.",
        "",
    ]
    for slot, (title, _) in SLOTS.items():
        lines += [f"## [{title}]({slot}.md): `{slot}`", "", "| name | card |", "|---|---|"]
        lines += [f"| [{e.name}]({slot}.md#{e.name}) | {e.summary} |" for e in REGISTRY if e.slot == slot]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def pages() -> dict[str, str]:
    """File name to content of everything under docs/strategies."""
    return {"README.md": index(), **{f"{slot}.md": page(slot) for slot in SLOTS}}


def main(arguments: list[str]) -> int:
    """Write the cards to the folder named first, or check them with ``--check``; returns the exit code."""
    folder = Path(arguments[0])
    stale = [n for n, text in pages().items() if not (folder / n).is_file() or (folder / n).read_text("utf-8") != text]
    if "--check" in arguments[1:]:
        print(f"out of date: {', '.join(stale)}" if stale else "cards are up to date")
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).write_text(pages()[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
