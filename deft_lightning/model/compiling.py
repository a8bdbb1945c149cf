"""torch.compile where it works."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch._dynamo.exc import BackendCompilerFailed

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def compile_or_not(
    function: Callable[..., Result], device: torch.device, example: tuple[Any, ...]
) -> Callable[..., Result]:
    """`function` compiled, if that works on `device` for the arguments `example`; else itself, with one sentence."""
    if not can_compile(device.type):
        log.info("torch.compile needs a C++ compiler and Python's headers, or Triton: training without it.")
        return function
    compiled = torch.compile(function, dynamic=False)
    try:
        compiled(*example)
    except BackendCompilerFailed as error:  # such as a compiler without OpenMP or headers
        log.info("torch.compile failed (%s): training without it.", type(error.inner_exception).__name__)
        return function
    return compiled


def can_compile(device_type: str) -> bool:
    """Whether torch.compile can work: it needs a C++ compiler and Python's headers on a CPU, and Triton on CUDA."""
    if device_type == "cpu":
        headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
        return headers and any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    return device_type == "cuda" and importlib.util.find_spec("triton") is not None
