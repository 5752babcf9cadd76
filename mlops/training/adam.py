"""Adam (Kingma and Ba 2015, arXiv:1412.6980). Pure."""

from __future__ import annotations

import numpy as np

from mlops.serving.embedder import Vectors


class Adam:
    """For one array of weights."""

    BETA_1 = 0.9
    BETA_2 = 0.999
    EPSILON = 1e-8

    def __init__(self, weights: Vectors, learning_rate: float) -> None:
        self._mean = np.zeros_like(weights)
        self._square = np.zeros_like(weights)
        self._rate = learning_rate
        self._steps = 0

    def step(self, weights: Vectors, gradient: Vectors) -> Vectors:
        """The weights after one step against `gradient`."""
        self._steps += 1
        self._mean += (1 - self.BETA_1) * (gradient - self._mean)
        self._square += (1 - self.BETA_2) * (gradient * gradient - self._square)
        mean = self._mean / (1 - self.BETA_1**self._steps)
        square = self._square / (1 - self.BETA_2**self._steps)
        change: Vectors = self._rate * mean / (np.sqrt(square) + self.EPSILON)
        return weights - change.astype(np.float32)
