"""Kinds of values that options of several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
"""That is there."""
NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)
"""That is written; it may be there."""
FOLDER: Final = click.Path(file_okay=False, path_type=Path)
"""That is made where it is missing."""
KNOWN_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
"""That is there."""
