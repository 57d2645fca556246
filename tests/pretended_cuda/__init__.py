"""A CUDA device that is not there, so that a machine without one finds what a GPU would refuse or wait for.

Tensors on it have shapes, dtypes and a device, but no numbers (PyTorch's ``FakeTensorMode``), and they go through
PyTorch's real dispatcher. :mod:`pretended_cuda.watch` counts the kernels that the host would launch and notes
every place where it would wait. ``tests/training/test_pretended_cuda.py`` runs the suites here (``suite_*.py``) in a
process of their own, because the shim has to be loaded before PyTorch.

Not seen: numbers, memory, time, kernels that wait inside themselves.
"""
