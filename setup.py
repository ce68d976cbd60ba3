"""Maps the rooms (top-level folders) to their import names under ``c4c.``.

Names such as ``kernels`` and ``datasets`` belong to other packages on PyPI, so no room
is importable under its bare name. ``core/`` is ``c4c`` itself. The list is written out:
adding a room adds a line here and needs a reinstall.
"""

from pathlib import Path

from setuptools import Extension, setup

ROOMS = {
    "c4c": "core",
    "c4c.cli.commands": "core/commands",
    "c4c.extract": "extract",
    "c4c.extract.datasets": "extract/datasets",
    "c4c.kernels": "kernels",
    "c4c.heads": "heads",
    "c4c.training": "training",
    "c4c.retrieval": "retrieval",
    "c4c.study": "study",
}

# The compiled part of the CPU kernels. Optional: without a C compiler c4c is slower, not less.
NATIVE = Extension(
    "c4c.kernels._native",
    sources=["kernels/csrc/native.c"],
    depends=[str(path) for path in sorted(Path("kernels/csrc").glob("*.h"))],
    extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno"],
    libraries=["m"],
    optional=True,
)

setup(packages=list(ROOMS), package_dir=ROOMS, ext_modules=[NATIVE])
