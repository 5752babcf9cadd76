"""What several rooms' tests need, and is dear to make: made once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three versions of the demo model, trained; some fourteen seconds of work."""
    from mlops.training.linear_adapter import prepare_demo_models  # noqa: PLC0415  slow to import

    return prepare_demo_models(tmp_path_factory.mktemp("models"))
