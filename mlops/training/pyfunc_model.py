"""A trained version as MLflow's pyfunc: questions in, ids and scores of documents out.

MLflow loads it by the name of this module (`_load_pyfunc`), so nothing is pickled: weights, index
and description are files, and preprocessing is the code of `versions`.
"""

from __future__ import annotations

import shutil
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops.training.versions import Description, RetrievalModel, load_version

if TYPE_CHECKING:
    import pandas as pd

QUESTION: Final = "query_text"
DEFAULT_TOP_K: Final = 5
EXAMPLE: Final = "How do I sort an array along an axis?"
"""Ours: an example from the traffic would be somebody's question."""

REQUIREMENTS: Final = ("numpy", "pandas", "pyarrow", "msgspec", "wordllama")
_PACKAGE: Final = Path(__file__).resolve().parent.parent


class PyfuncModel:
    """What MLflow calls."""

    def __init__(self, model: RetrievalModel) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """One row of `document_ids` and `scores` for each question, best first."""
        import pandas as pd  # noqa: PLC0415  an extra

        count = int((params or {}).get("top_k", DEFAULT_TOP_K))
        found = [self._model.search(text, count) for text in model_input[QUESTION]]
        return pd.DataFrame(
            {
                "document_ids": [[one.id for one in hits] for hits in found],
                "scores": [[one.score for one in hits] for hits in found],
            }
        )


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow's hook; `path` is the folder of the version."""
    return PyfuncModel(load_version(Path(path)))


def save_pyfunc(
    version: Path, target: Path, description: Description, facts: dict[str, str]
) -> None:
    """Write the version in `version` as a pyfunc to `target`, replacing what a broken attempt left.

    `facts` are kept as its metadata: data window, seeds.
    """
    import pandas as pd  # noqa: PLC0415  an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints of its own
        pyfunc = import_module("mlflow.pyfunc")
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import Array  # noqa: PLC0415

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, QUESTION)]),
        outputs=Schema(
            [
                ColSpec(Array(DataType.string), "document_ids"),
                ColSpec(Array(DataType.double), "scores"),
            ]
        ),
        params=ParamSchema([ParamSpec("top_k", DataType.long, DEFAULT_TOP_K)]),
    )
    shutil.rmtree(target, ignore_errors=True)
    pyfunc.save_model(
        path=str(target),
        loader_module=__name__,
        data_path=str(version),
        code_paths=[str(_PACKAGE)],
        signature=signature,
        input_example=pd.DataFrame({QUESTION: [EXAMPLE]}),
        pip_requirements=list(REQUIREMENTS),
        metadata={"encoder": description.encoder, **facts},
    )
