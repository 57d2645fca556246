"""Builds the shim with the system's C++ compiler and loads it; does not import PyTorch."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
FOLDER = "PRETENDED_CUDA_FOLDER"
"""Environment variable: where the built shim lies."""


def compiler() -> str | None:
    """The C++ compiler: $CXX, or the first that there is."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def why_not() -> str | None:
    """Why there can be no pretended device on this machine; None where there can."""
    if not sys.platform.startswith("linux"):
        return f"the pretended CUDA replaces a symbol of PyTorch, which is tried on Linux only, not on {sys.platform}"
    if compiler() is None:
        return "the pretended CUDA needs a C++ compiler: neither $CXX nor c++, g++ or clang++ was found"
    return None


def torch_folder() -> Path:
    """Where PyTorch is installed."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def build(folder: Path) -> Path:
    """The shim as a shared library in ``folder``; built anew for another source, compiler or PyTorch."""
    torch, cxx = torch_folder(), compiler()
    assert cxx is not None
    made_of = [SOURCE.read_bytes(), (torch / "version.py").read_bytes(), cxx.encode()]
    library = folder / f"guard_{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:16]}.so"
    if not library.exists():
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [cxx, "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch / 'include'}", str(SOURCE)]
        command += ["-o", str(unfinished), f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-Wl,--no-as-needed"]
        subprocess.run([*command, "-lc10", "-ltorch_cpu"], check=True, capture_output=True, text=True)
        unfinished.replace(library)
    return library


def load(library: Path) -> None:
    """Load the shim; PyTorch must not be imported yet."""
    if "torch" in sys.modules:
        raise RuntimeError("the pretended CUDA must be loaded before PyTorch is imported")
    shim = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    shim.pretend_cuda.restype = ctypes.c_bool
    if not shim.pretend_cuda():
        raise RuntimeError("PyTorch had asked for CUDA before the pretended one was there")
