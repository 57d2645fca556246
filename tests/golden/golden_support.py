"""Comparison of arrays with golden values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

RTOL = 1e-9


def number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def array(values: Any) -> np.ndarray:
    """Golden numbers as float64; "nan", "inf" and null included."""
    if isinstance(values, list):
        return np.array([array(v) for v in values], dtype=np.float64)
    return np.float64(number(values))


def close(got: Any, expected: Any, rtol: float = RTOL, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(got, dtype=np.float64), array(expected), rtol=rtol, atol=atol, equal_nan=True)


def close_to_largest(got: Any, expected: Any, rtol: float = RTOL) -> None:
    """Relative to the largest entry, as the golden README says for gradients."""
    want = array(expected)
    close(got, expected, rtol=0, atol=rtol * float(np.abs(want).max()) + 1e-15)


def differs(got: float, trap: float) -> None:
    """The value of a faulty implementation must not come out."""
    assert np.isnan(trap) or abs(got - trap) > 1e-6 * abs(trap), f"{got} is the trap value"


def only_keys(found: dict, known: set[str]) -> None:
    """A case with an expectation that this test does not look at must fail."""
    assert set(found) <= known, f"unknown keys {sorted(set(found) - known)}"


def value_and_gradient(loss: Callable[[torch.Tensor], torch.Tensor], logits: Any) -> tuple[float, np.ndarray]:
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    value = loss(z)
    (gradient,) = torch.autograd.grad(value, z)
    return value.item(), gradient.numpy()


def check_loss(loss: Callable[[torch.Tensor], torch.Tensor], logits: Any, expected: float, gradient: Any) -> float:
    value, grad = value_and_gradient(loss, logits)
    close(value, expected)
    close_to_largest(grad, gradient)
    return value


def labels(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def doubles(values: Any) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float64)
