"""Docstrings of what four libraries export: one for each public function and class, no methods.

As one would collect them by hand: the modules that people import, `inspect.getdoc` of their public
names, the first paragraph as the question and the rest as its answer.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from mlops.serving.corpus import Corpus, corpus_of
from mlops.serving.docstrings import Docstring

MIN_SUMMARY_WORDS = 4
MIN_BODY_CHARS = 100
MODULES = {
    "numpy": "linalg fft random ma polynomial",
    "scipy": "cluster.hierarchy cluster.vq fft integrate interpolate io linalg ndimage optimize "
    "signal sparse sparse.linalg spatial spatial.distance special stats",
    "sklearn": "calibration cluster compose covariance datasets decomposition "
    "discriminant_analysis ensemble feature_extraction feature_extraction.text "
    "feature_selection gaussian_process impute "
    "inspection kernel_approximation linear_model manifold metrics mixture model_selection "
    "multiclass naive_bayes neighbors neural_network pipeline preprocessing random_projection svm "
    "tree utils",
}
NO_LIBRARY = frozenset(
    {"antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "this", "turtledemo"}
)
"""Names in the standard library that open a browser, print a poem, or are programs."""


def public_docstrings() -> Corpus:
    """The pairs of all four; equal questions or bodies once."""
    return corpus_of((domain, _long_enough(_exported(modules))) for domain, modules in _modules())


def _modules() -> Iterator[tuple[str, list[str]]]:
    for package, names in MODULES.items():
        inner = [f"{package}.{name}" for name in names.split()]
        yield package, [package, *inner] if package == "numpy" else inner
    public = sorted(name for name in sys.stdlib_module_names if not name.startswith("_"))
    yield "stdlib", [name for name in public if name not in NO_LIBRARY]


def _exported(modules: list[str]) -> Iterator[Docstring]:
    for module in filter(None, map(_imported, modules)):
        package = module.__name__.partition(".")[0]
        for name in sorted(vars(module)):
            value = getattr(module, name, None)
            if name.startswith("_") or inspect.ismodule(value) or not callable(value):
                continue
            home = getattr(value, "__module__", None) or package
            docstring = inspect.getdoc(value)
            if docstring and home.partition(".")[0] == package:
                yield f"{module.__name__}.{name}", docstring


def _imported(name: str) -> ModuleType | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        return None  # of another system, or a part that was not built


def _long_enough(docstrings: Iterator[Docstring]) -> Iterator[Docstring]:
    """Those whose first paragraph is a question and whose rest is an answer."""
    for name, docstring in docstrings:
        summary, _, body = docstring.partition("\n\n")
        if len(summary.split()) >= MIN_SUMMARY_WORDS and len(body.strip()) >= MIN_BODY_CHARS:
            yield name, docstring
