"""Any model that MLflow can load as a Python function: `MLmodel` and what lies beside it.

Its folder names it: `.../MODEL/VERSION`. Loading runs the model's own code, as MLflow's server
does: load only what your registry holds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, load_model
from mlflow.pyfunc.scoring_server import invocations
from mlflow.types import DataType, Schema

from mlops.serving.batching import Embedded
from mlops.serving.bodies import BadRequest, Scored, Side
from mlops.serving.embedder import Vectors
from mlops.serving.model import BadModel

log = logging.getLogger(__name__)

WARM_UP_TEXT: Final = "What is a lease?"


class PyfuncModel:
    """A loaded version. `embed_many` and `score` may run in threads of their own."""

    def __init__(self, model: PyFuncModel, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self.snapshot = f"{name}-{version}"
        self.dimension: int | None = None
        """Of its vectors; known once it has made some."""
        self._model = model
        metadata: Any = model.metadata
        self._schema: Schema | None = metadata.get_input_schema()

    def embed_many(self, texts: Sequence[str], side: Side = "document") -> list[Embedded]:
        """Vectors of the texts; a model of MLflow's knows no sides.

        Raises:
            BadRequest: the model takes something else than texts, or gives something else than one
                vector for each (404); or it failed (500).
        """
        del side
        given = self._input(texts)
        try:
            predicted = self._model.predict(given)
        except Exception as error:  # the model's own code may raise anything
            log.exception("%s failed on %d texts", self.snapshot, len(texts))
            raise BadRequest(
                f"{self.snapshot} failed on these texts ({type(error).__name__})",
                status=500,
                code="model_failed",
            ) from error
        found = _vectors(predicted, len(texts))
        self.dimension = int(found.shape[1])
        return [(row, 0) for row in found]

    def score(self, content: bytes, content_type: str) -> Scored:
        """Answer `POST /invocations`: MLflow's own reading of the body, and its own answer."""
        try:
            answer: Any = invocations(  # type: ignore[no-untyped-call]
                content, content_type, self._model, self._schema
            )
        except MlflowException as error:
            return Scored(
                status=int(error.get_http_status_code()),  # type: ignore[no-untyped-call]
                body=error.serialize_as_json(),  # type: ignore[no-untyped-call]
                content_type="application/json",
            )
        return Scored(status=answer.status, body=answer.response, content_type=answer.mimetype)

    def warm_up(self) -> None:
        """Run it once: on the example it was logged with, and on a text where it says it takes
        texts.

        Raises:
            BadModel: it fails on its own example.
        """
        example: Any = self._model.input_example
        if example is not None:
            try:
                self._model.predict(example)
            except Exception as error:  # the model's own code may raise anything
                raise BadModel(
                    f"{self.snapshot} fails on the example that it was logged with: {error}"
                ) from error
        if self._schema is not None and self._column() is not None:
            with suppress(BadRequest):  # it takes texts and need not give vectors for them
                self.embed_many([WARM_UP_TEXT])

    def _input(self, texts: Sequence[str]) -> Any:
        column = self._column()
        if column is None:
            raise BadRequest(
                f"{self.snapshot} takes {self._schema or 'no texts'}; POST /invocations serves it",
                status=404,
                code="not_supported",
            )
        return pd.DataFrame({column: list(texts)}) if column else list(texts)

    def _column(self) -> str | None:
        """Name of the column that texts go to; empty: a plain list; None: it takes no texts.

        A model without a signature is given a plain list.
        """
        if self._schema is None:
            return ""
        if self._schema.is_tensor_spec() or len(self._schema.inputs) != 1:
            return None
        (only,) = self._schema.inputs
        if only.type != DataType.string:
            return None
        return only.name or ""


def load_pyfunc(directory: Path) -> PyfuncModel:
    """Load a model that MLflow has saved in `.../MODEL/VERSION`.

    Raises:
        BadModel: it cannot be loaded.
    """
    try:
        loaded = load_model(str(directory))
    except Exception as error:  # the model's own code may raise anything
        raise BadModel(f"{directory} cannot be loaded by MLflow: {error}") from error
    return PyfuncModel(loaded, directory.parent.name, directory.name)


def _vectors(predicted: Any, count: int) -> Vectors:
    """Rows of single precision, one for each text, from whatever a model returns for it."""
    if isinstance(predicted, pd.DataFrame):
        one_column = predicted.shape[1] == 1
        predicted = predicted.iloc[:, 0].tolist() if one_column else predicted.to_numpy()
    elif isinstance(predicted, pd.Series):
        predicted = predicted.tolist()
    try:
        rows: Vectors = np.asarray(predicted, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise _no_vectors(f"{type(predicted).__name__} that holds no numbers") from error
    if rows.ndim != 2 or len(rows) != count:
        raise _no_vectors(f"numbers of shape {rows.shape}")
    return rows


def _no_vectors(what: str) -> BadRequest:
    return BadRequest(
        f"the model gives {what} instead of one vector for each text; POST /invocations serves it",
        status=404,
        code="not_supported",
    )
