"""Several versions in one server: which are loaded, which one serves, which one goes first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol, runtime_checkable

from mlops.serving.batching import Embeds
from mlops.serving.bodies import Scored
from mlops.serving.model import BadModel

MAX_LOADED: Final = 3
"""Versions in memory: stable, canary, and the one before, so that going back loads nothing."""


class Servable(Embeds, Protocol):
    """A loaded version of any kind."""

    name: str
    version: str
    snapshot: str
    """`NAME-VERSION`: names this very version where `name` moves with releases."""
    dimension: int | None
    """Of its vectors, where that is known."""

    def warm_up(self) -> None:
        """Run it once before it serves.

        Raises:
            BadModel: it does not run.
        """


@runtime_checkable
class Scores(Protocol):
    """A version that answers MLflow's scoring protocol as well."""

    def score(self, content: bytes, content_type: str) -> Scored:
        """Answer one body of `POST /invocations`. Runs in a thread."""


Load = Callable[[Path], Servable]
"""Reads a version from its directory."""
Fetch = Callable[[str, str], Path]
"""Brings a registered version (model, version) to this machine; where it lies."""
Observe = Callable[[str, float], None]
"""Told of every load: `ok` or `failed`, and the seconds it took."""
Serves = Callable[[str, str], None]
"""Told of every registered version (model, version) before it serves. Where it raises, none does.
"""


class Versions:
    """The model that serves, and others kept loaded. Requests under way keep the one they have."""

    def __init__(self, load: Load, fetch: Fetch, *, max_loaded: int = MAX_LOADED) -> None:
        """`load` and `fetch` may take long and run in threads."""
        self._load = load
        self._fetch = fetch
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[tuple[str, str], Servable] = OrderedDict()
        self._changing = asyncio.Lock()
        self.serving: Servable | None = None
        self.observe: Observe = lambda _result, _duration_s: None
        self.serves: Serves = lambda _model, _version: None

    async def serve_directory(self, directory: Path) -> Servable:
        """Load the version in a directory, and serve it.

        Raises:
            BadModel: it is none that this server can serve; nothing changed.
        """
        async with self._changing:
            model = await asyncio.to_thread(self._timed, lambda: self._loaded_from(directory))
            self._put((model.name, model.version), model)
            return model

    async def serve_version(self, name: str, version: str) -> Servable:
        """Fetch, load and warm up a registered version, then serve it: at once for new requests,
        while those under way finish with the old one.

        Raises:
            BadModel: what was fetched is another version, or cannot be served, or a restart would
                not find it again; nothing changed.
        """
        async with self._changing:
            key = (name, version)
            model = self._loaded.get(key)
            if model is None:
                model = await asyncio.to_thread(
                    self._timed, lambda: self._fetched_and_loaded(name, version)
                )
            self.serves(name, version)
            self._put(key, model)
            return model

    @property
    def serving_as(self) -> str:
        """The name under which the serving version was asked for, or that it gives itself."""
        return next(reversed(self._loaded))[0] if self._loaded else ""

    @property
    def loaded(self) -> list[str]:
        """Versions in memory; the one that served last is last."""
        return [version for _, version in self._loaded]

    def _timed(self, load: Callable[[], Servable]) -> Servable:
        started_s, result = perf_counter(), "failed"
        try:
            model = load()
            result = "ok"
            return model
        finally:
            self.observe(result, perf_counter() - started_s)

    def _fetched_and_loaded(self, name: str, version: str) -> Servable:
        model = self._loaded_from(self._fetch(name, version))
        if model.version != version:
            raise BadModel(
                f"{name} {version} holds version {model.version}; its manifest and its name in "
                "the store must say the same"
            )
        return model

    def _loaded_from(self, directory: Path) -> Servable:
        model = self._load(directory)
        model.warm_up()
        return model

    def _put(self, key: tuple[str, str], model: Servable) -> None:
        self._loaded[key] = model
        self._loaded.move_to_end(key)
        self.serving = model
        while len(self._loaded) > self._max_loaded:
            self._loaded.popitem(last=False)
