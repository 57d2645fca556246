"""The dispatch mode that counts launches and notes what a device would wait for or refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from pretended_cuda.found import Event, Found, Kind, place
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


def names(*lines: str) -> frozenset[str]:
    """The words of some lines."""
    return frozenset(word for line in lines for word in line.split())


_NO_KERNEL = names(
    "_reshape_alias _unsafe_view alias as_strided chunk detach diagonal empty empty_like empty_strided expand flatten",
    "is_same_size lift_fresh movedim narrow new_empty new_empty_strided permute real reshape resize_ select set_ slice",
    "split split_with_sizes squeeze t transpose unbind unflatten unfold unsqueeze view view_as",
)
"""Views, allocations and questions."""
_SIZED_BY_DATA = names("_unique2 bincount equal masked_select nonzero repeat_interleave unique_consecutive unique_dim")
"""The size of their result, or the result itself, is a number on the device that the host waits for."""
_INDEXING = names("index index_put index_put_ _index_put_impl_")
_COPIED_FIRST = names("index_add index_copy index_fill masked_fill scatter_add slice_scatter select_scatter")
_LIST_PIECE = 60  # tensors that one kernel of a list operation takes


class NotCapturable(RuntimeError):
    """A step that should become a CUDA graph does what a graph cannot hold."""


class Watch(TorchDispatchMode):
    """Sits above ``FakeTensorMode``; see :meth:`watching`."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[Found] = []
        self.captures: list[Any] | None = None  # generators that the graph which is being captured knows

    # ---- what was found ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def watching(self) -> Iterator[Found]:
        """Collect what happens within; stretches may lie within one another."""
        found = Found()
        self._open.append(found)
        try:
            yield found
        finally:
            self._open.remove(found)

    @contextlib.contextmanager
    def capturing(self, generators: list[Any]) -> Iterator[Found]:
        """Within, a CUDA graph that knows ``generators`` is captured: nothing is launched, every event is refused."""
        before, self._open, self.captures = self._open, [], generators
        try:
            with self.watching() as found:
                yield found
        finally:
            self._open, self.captures = before, None

    def replayed(self, recorded: Found) -> None:
        """A graph is launched: one launch for all its kernels."""
        self.count("graph replay")
        for found in self._open:
            found.replayed.update(recorded.kernels)

    def note(self, kind: Kind, what: str) -> None:
        """Add an event to every open stretch.

        Raises
        ------
        NotCapturable
            While a CUDA graph is being captured.
        """
        event = Event(kind, what, place())
        if self.captures is not None:
            raise NotCapturable(f"operation not permitted when stream is capturing: {event}")
        for found in self._open:
            found.events.append(event)

    def count(self, name: str, n: int = 1) -> None:
        """Add ``n`` launches of a kernel to every open stretch."""
        for found in self._open:
            found.kernels[name] += n

    # ---- every operation ---------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # inference mode passes such operations on whole
                return func.decompose(*args, **kwargs)
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = {t.device.type for t in tensors}
        if name == "_local_scalar_dense" and "cuda" in devices:
            return self._item(args[0])
        if kwargs.get("pin_memory"):
            return _pinned(func, args, kwargs)
        if name in ("_to_copy", "copy_"):
            self._copy(name, args, kwargs)
            if name == "copy_" and not isinstance(args[0], FakeTensor) and "cuda" in devices:
                return _really(func, (args[0], _arrived(args[1], None)), {})
        wanted = kwargs.get("device")
        target = torch.device(wanted).type if wanted is not None else None
        if target != "cuda" and not any(isinstance(t, FakeTensor) for t in tensors):
            return _really(func, args, kwargs)
        if name == "_to_copy" and target == "cpu" and "cuda" in devices:
            return _arrived(args[0], kwargs.get("dtype"))
        if name in _INDEXING and args[0].device.type == "cuda":
            self._index(name, args[1])
            if name == "index" and any(_is_mask(i) for i in args[1]):
                return self._masked(args[0], next(i for i in args[1] if _is_mask(i)))
        if name in _SIZED_BY_DATA and "cuda" in devices:
            self.note("host read", name)
            if name in ("bincount", "masked_select", "nonzero"):
                return self._sized(name, args, kwargs)
        if self.captures is not None and "cuda" in devices and any(t.device.type == "cpu" for t in tensors):
            self.note("host scalar", f"{name} takes a number of the host")
        if name == "_thnn_fused_lstm_cell":
            return self._lstm_cell(*args[:3])
        if name == "_fused_adamw_":
            return self._adamw(tensors)
        out = func(*args, **kwargs)
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        on_device = results[0].device.type == "cuda" if results else "cuda" in devices
        unchanged = name == "_to_copy" and results[0] is tensors[0]
        if on_device and name not in _NO_KERNEL and not unchanged:
            self.count(name, _kernels(name, args))
        if name == "_to_copy" and target == "cuda" and not isinstance(tensors[0], FakeTensor):
            results[0].of_host = tensors[0]  # type: ignore[attr-defined]
        return out

    # ---- what is special ---------------------------------------------------------------------------

    def _item(self, tensor: Tensor) -> bool | int | float:
        """Any number of the dtype: no step counter is as large, no mean as plain."""
        self.note("host read", "item, bool, int, float or tolist")
        return True if tensor.dtype is torch.bool else 1.0 if tensor.dtype.is_floating_point else 2**31

    def _copy(self, name: str, args: Any, kwargs: Any) -> None:
        source = args[1] if name == "copy_" else args[0]
        into = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
        if source.device.type == into.type:
            return
        if getattr(args[0], "is_page_locked", False) and len(args) > 2 and args[2]:
            return  # the device copies by itself; an event tells when
        asked = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        size = f"{source.numel() * source.element_size()} bytes{', non_blocking, not pinned' if asked else ''}"
        self.note("copy to the host" if into.type == "cpu" else "copy from the host", size)

    def _index(self, name: str, indices: Any) -> None:
        for index in indices:
            if index is None:
                continue
            if _is_mask(index):
                self.note("host read", f"{name} with a boolean mask")
            elif index.device.type == "cpu" and index.dim():
                self.note("copy from the host", f"{name} of a device tensor with an index on the host")

    def _masked(self, values: Tensor, mask: Tensor) -> Tensor:
        """As many rows as the mask had when it came from the host; else all."""
        of_host = getattr(mask, "of_host", None)
        n = mask.numel() if of_host is None else _really(lambda t: int(t.sum()), (of_host,), {})
        return values.new_empty((n, *values.shape[mask.dim() :]))

    def _sized(self, name: str, args: Any, kwargs: Any) -> Tensor:
        self.count(name)
        if name == "nonzero":
            return args[0].new_zeros((args[0].numel(), args[0].dim()), dtype=torch.int64)
        if name == "masked_select":
            return args[0].new_zeros(args[0].numel())
        least = kwargs.get("minlength", args[2] if len(args) > 2 else 0)
        return args[0].new_zeros(least or 128, dtype=torch.int64)

    def _adamw(self, tensors: list[Tensor]) -> None:
        """In place, one kernel for a list; PyTorch has no rule of its shapes for a rate that is a tensor."""
        devices = {str(t.device) for t in tensors if t.dim()}
        if len(devices) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {sorted(devices)}")
        self.count("_fused_adamw_")

    def _lstm_cell(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One kernel per step where cuDNN is off; PyTorch's own rule of its shapes fails without biases."""
        if gates.shape != hidden.shape or gates.shape[-1] != 4 * cell.shape[-1]:
            raise RuntimeError(f"_thnn_fused_lstm_cell: gates {gates.shape}, {hidden.shape} of a cell {cell.shape}")
        self.count("_thnn_fused_lstm_cell")
        return cell.new_empty(cell.shape), cell.new_empty(cell.shape), gates.new_empty(gates.shape)


def _kernels(name: str, args: Any) -> int:
    """Kernels of an operation: one, but a list is worked off in pieces, and a copy that is then changed is two."""
    if name.startswith("_foreach") and isinstance(args[0], list | tuple):
        return len(args[0]) // _LIST_PIECE + 1
    return 2 if name in _COPIED_FIRST else 1


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _arrived(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """What comes back on the host: the numbers that once went there, else made up ones that are large."""
    of_host = getattr(tensor, "of_host", None)
    dtype = dtype or tensor.dtype
    if of_host is not None:
        return _really(aten._to_copy.default, (of_host,), {"dtype": dtype})
    cpu = torch.device("cpu")
    if not dtype.is_floating_point:
        return _really(aten.ones.default, (list(tensor.shape),), {"dtype": dtype, "device": cpu})
    flat = _really(aten.arange.default, (tensor.numel(),), {"dtype": torch.float64, "device": cpu})
    return _really(lambda x: (1000 + (0.618 * x).frac()).view(tensor.shape).to(dtype), (flat,), {})


def _pinned(func: Any, args: Any, kwargs: Any) -> Tensor:
    """Memory that a device can copy to and from by itself; here it is like any other."""
    made = _really(func, args, {**kwargs, "pin_memory": False})
    made.is_page_locked = True
    return made


def _really(func: Any, args: Any, kwargs: Any) -> Any:
    """What the host does is done: its tensors have numbers."""
    fake = torch._C._unset_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    try:
        return func(*args, **kwargs)
    finally:
        if fake is not None:
            torch._C._set_dispatch_mode(fake)
