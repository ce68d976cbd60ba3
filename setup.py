"""Maps the rooms (top-level folders) to their import names under ``c4c.``.

Names such as ``kernels`` and ``datasets`` belong to other packages on PyPI, so no room
is importable under its bare name. ``core/`` is ``c4c`` itself. The list is written out:
adding a room adds a line here and needs a reinstall.
"""

from setuptools import setup

ROOMS = {
    "c4c": "core",
    "c4c.commands": "core/commands",
    "c4c.extract": "extract",
    "c4c.extract.datasets": "extract/datasets",
    "c4c.kernels": "kernels",
    "c4c.heads": "heads",
    "c4c.training": "training",
    "c4c.retrieval": "retrieval",
    "c4c.study": "study",
}

setup(packages=list(ROOMS), package_dir=ROOMS)
