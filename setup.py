"""Packages are found under ``src/c4c``, whose entries are links to the rooms (top-level folders).

Names such as ``kernels`` and ``datasets`` belong to other packages on PyPI, so no room is
importable under its bare name: ``extract/`` is ``c4c.extract``. The links make that visible to
editors and type checkers too. A new room is a folder, a link and a line in the architecture test.
"""

from pathlib import Path

from setuptools import Extension, find_packages, setup

# The compiled part of the CPU kernels. Optional: without a C compiler c4c is slower, not less.
NATIVE = Extension(
    "c4c.kernels._native",
    sources=["src/c4c/kernels/csrc/native.c"],
    depends=[str(path) for path in sorted(Path("src/c4c/kernels/csrc").glob("*.h"))],
    extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno"],
    libraries=["m"],
    optional=True,
)

setup(packages=find_packages("src"), package_dir={"": "src"}, ext_modules=[NATIVE])
