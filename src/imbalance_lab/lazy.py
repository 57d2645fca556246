"""PyTorch, imported when it is first used.

Reading an experiment file needs the options of every strategy, which stand beside their formulas; importing torch
for that would take a second of the one that a wrong key deserves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F  # noqa: N812
else:

    class _Later:
        """Stands for a module; what was asked for once is an attribute of its own and costs nothing more."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            from importlib import import_module

            value = getattr(import_module(self._name), attribute)
            setattr(self, attribute, value)
            return value

    torch = _Later("torch")
    F = _Later("torch.nn.functional")

__all__ = ["F", "torch"]
