"""An embedding model as a team would log it with MLflow: the frozen embedding, then two layers."""

import mlflow.models
import mlflow.pyfunc
import numpy as np

from mlops.serving.embedder import DIMENSION, Embedder

HIDDEN = 1_024


class Perceptron(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Its weights are drawn from a seed: what it costs does not depend on them."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        source = np.random.default_rng(1)
        self._embedder = Embedder()
        self._in = source.standard_normal((DIMENSION, HIDDEN), dtype=np.float32)
        self._out = source.standard_normal((HIDDEN, DIMENSION), dtype=np.float32)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        vectors = self._embedder.embed(list(model_input["text"]))
        return np.maximum(vectors @ self._in, 0) @ self._out


mlflow.models.set_model(Perceptron())
