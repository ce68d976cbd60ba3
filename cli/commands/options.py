"""Kinds of numbers that several commands take."""

from __future__ import annotations

import click

from c4c.cli.options import Slice as Slice
from c4c.core.limits import MOST_SEED

SEED = click.IntRange(0, MOST_SEED)
COUNT = click.IntRange(0, 1 << 20)
