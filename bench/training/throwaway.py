"""The adapter that one writes in an afternoon, to be beaten: two maps from the identity, in-batch
softmax both ways, Adam, early stopping, batches of 128. No token weights, hard negatives, decay or
whitening."""

from __future__ import annotations

from dataclasses import replace

from mlops.serving.adapter import Adapter
from mlops.training.fitting import FitSettings, fit
from mlops.training.pairs import Pairs

SETTINGS = FitSettings(
    batch_pairs=128,
    temperature=0.05,
    decay=0.0,
    whitening=0.0,
    hard_negatives=0,
    max_epochs=60,
    max_steps=10_000,
    patience_epochs=5,
)


def throwaway(pairs: Pairs, seed: int) -> Adapter:
    """Fitted on the same pairs."""
    return fit(replace(pairs, tokens=None), seed=seed, settings=SETTINGS).adapter
