"""Within :func:`pretended_cuda`, ``device="cuda"`` works on a machine without one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from pretended_cuda import graphs, kernels
from pretended_cuda.watch import Watch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)
_Generator = torch.Generator


class _NoKernels(FakeTensorMode):
    """Asks ``torch.cuda.is_available`` to learn whether it may use the device; it must not."""

    avoid_device_init = property(lambda self: True)  # type: ignore[assignment]


class CudaGenerator(_Generator):
    """A host generator that says that it is CUDA's."""

    device = property(lambda self: CUDA)  # type: ignore[assignment]

    def __new__(cls, device: Any = "cuda") -> CudaGenerator:
        return _Generator.__new__(cls)

    def clone_state(self) -> CudaGenerator:
        return CudaGenerator()

    def graphsafe_get_state(self) -> CudaGenerator:
        return self

    def graphsafe_set_state(self, state: CudaGenerator) -> CudaGenerator:
        assert isinstance(state, CudaGenerator)
        return self


class _EitherGenerator(_Generator):
    """Stands for ``torch.Generator``."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
        return CudaGenerator() if torch.device(device).type == "cuda" else _Generator(device)


class _Generators(TorchFunctionMode):
    """Compares a generator with what it fills, where both can still be seen: the dispatcher gets a bare one."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and isinstance(out, Tensor) and out.device.type != generator.device.type:
            name = getattr(func, "__name__", str(func))
            what = f"{name} fills a tensor of {out.device.type} from a generator of {generator.device.type}"
            self.watch.note("generator of another device", what)
        known = self.watch.captures
        if isinstance(generator, CudaGenerator) and known is not None and generator not in known:
            self.watch.note("generator of another device", "the graph does not know it: register_generator_state")
        return out


def _answers() -> dict[str, Any]:
    """What ``torch.cuda`` says and does on a machine with one device."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "_lazy_call": lambda *_, **__: None,
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "set_device": lambda *_: None,
        "device": lambda *_: contextlib.nullcontext(),
        "get_device_name": lambda *_: "pretended",
        "empty_cache": lambda: None,
        "mem_get_info": lambda *_: (2**36, 2**36),
        "memory_allocated": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "max_memory_reserved": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "default_generators": (CudaGenerator(),),
    }


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Watch]:
    """A device without numbers, and the watch over it."""
    watch, vf, functional = Watch(), sys.modules["torch._VF"], nn.functional
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for name, answer in (_answers() | graphs.answers(watch)).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        # Flattening an LSTM's weights for cuDNN is memory, which is not pretended.
        stack.enter_context(mock.patch.object(torch.backends.cudnn, "is_acceptable", return_value=False))
        # An optimiser asks whether it is being captured.
        stack.enter_context(mock.patch.object(torch.accelerator, "current_accelerator", return_value=CUDA))
        stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", torch.cuda.current_stream))
        stack.enter_context(mock.patch.object(torch, "Generator", _EitherGenerator))
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False))
        fused = kernels.attention(watch, functional.scaled_dot_product_attention)
        stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", fused))
        vf.__dict__["lstm"] = kernels.lstm(watch, vf.lstm)
        stack.callback(vf.__dict__.pop, "lstm")
        # Module.to makes new parameters: the numbers of a host parameter cannot be exchanged for none.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(_NoKernels(allow_non_fake_inputs=True))
        stack.enter_context(watch)
        stack.enter_context(_Generators(watch))
        yield watch
