"""Pytest plugin (``-p pretended_cuda.plugin``): the shim is loaded before any conftest imports PyTorch."""

import os
from pathlib import Path

from pretended_cuda import build

build.load(build.build(Path(os.environ[build.FOLDER])))
