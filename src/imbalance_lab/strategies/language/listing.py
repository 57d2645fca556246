"""The catalogue in a terminal, one line each: the command ``strategies``, which needs no MLflow."""

from __future__ import annotations

import argparse
import shutil

from imbalance_lab.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``strategies``."""
    parser.add_argument("--slot", default="", help="only this slot: weights, loss, sampler, schedule, head ...")


def main(arguments: argparse.Namespace) -> int:
    """Print the cards, grouped by slot; 0.

    Raises
    ------
    InputError
        If there is no such slot.
    """
    from imbalance_lab.strategies.language.option_cards import SLOTS
    from imbalance_lab.strategies.language.registry import one_line_cards

    if arguments.slot and arguments.slot not in SLOTS:
        raise InputError(f"--slot: found {arguments.slot!r}; allowed: {', '.join(SLOTS)}")
    cards = [card for card in one_line_cards() if arguments.slot in ("", card[0])]
    print("\n".join(listing(cards, {slot: title for slot, (title, _) in SLOTS.items()}, _columns())))
    return 0


def listing(cards: list[tuple[str, str, str]], titles: dict[str, str], columns: int) -> list[str]:
    """Lines of a listing: a heading per slot, then name and summary, cut at ``columns`` characters (0: never)."""
    width = max(len(name) for _, name, _ in cards)
    lines: list[str] = []
    for slot, title in titles.items():
        own = [(name, summary) for s, name, summary in cards if s == slot]
        if own:
            lines += ["", f"{slot}: {title}"] if lines else [f"{slot}: {title}"]
        for name, summary in own:
            line = f"  {name:<{width}}  {summary}"
            lines.append(line if not columns or len(line) <= columns else line[: columns - 1] + "…")
    return lines


def _columns() -> int:
    """Width of the terminal, or 0 where the output goes elsewhere."""
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
