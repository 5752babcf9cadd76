"""Several versions in one server: which are loaded, which one serves, which one goes first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlops.serving.model import BadModel, Model

MAX_LOADED: Final = 3
"""Versions in memory: stable, canary, and the one before, so that going back loads nothing."""

WARM_UP_TEXTS: Final = (
    "What is a lease?",
    "warm",
    "a question of some length about nothing at all",
)
"""Embedded and looked up before a version serves: caches fill, and a broken one shows."""

Load = Callable[[Path], Model]
"""Reads a version from its directory."""
Fetch = Callable[[str, str], Path]
"""Brings a registered version (model, version) to this machine; where it lies."""


class Versions:
    """The model that serves, and others kept loaded. Requests under way keep the one they have."""

    def __init__(self, load: Load, fetch: Fetch, *, max_loaded: int = MAX_LOADED) -> None:
        """`load` and `fetch` may take long and run in threads."""
        self._load = load
        self._fetch = fetch
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[tuple[str, str], Model] = OrderedDict()
        self._changing = asyncio.Lock()
        self.serving: Model | None = None

    async def serve_directory(self, directory: Path) -> Model:
        """Load the version in a directory, and serve it.

        Raises:
            BadModel: it is none that this server can serve; nothing changed.
        """
        async with self._changing:
            model = await asyncio.to_thread(self._loaded_from, directory)
            self._put((model.manifest.name, model.manifest.version), model)
            return model

    async def serve_version(self, name: str, version: str) -> Model:
        """Fetch, load and warm up a registered version, then serve it: at once for new requests,
        while those under way finish with the old one.

        Raises:
            BadModel: what was fetched is another version, or cannot be served; nothing changed.
        """
        async with self._changing:
            key = (name, version)
            model = self._loaded.get(key)
            if model is None:
                directory = await asyncio.to_thread(self._fetch, name, version)
                model = await asyncio.to_thread(self._loaded_from, directory)
                if model.manifest.version != version:
                    raise BadModel(
                        f"{name} {version} holds version {model.manifest.version}; its manifest "
                        "and its name in the store must say the same"
                    )
            self._put(key, model)
            return model

    @property
    def loaded(self) -> list[str]:
        """Versions in memory; the one that served last is last."""
        return [version for _, version in self._loaded]

    def _loaded_from(self, directory: Path) -> Model:
        model = self._load(directory)
        for text in WARM_UP_TEXTS:
            vector, _ = model.embed(text)
            model.nearest(vector, 1)
        return model

    def _put(self, key: tuple[str, str], model: Model) -> None:
        self._loaded[key] = model
        self._loaded.move_to_end(key)
        self.serving = model
        while len(self._loaded) > self._max_loaded:
            self._loaded.popitem(last=False)
