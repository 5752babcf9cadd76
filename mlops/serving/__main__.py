"""`python -m mlops.serving --model DIR --port N`: serve one version of the retrieval model."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Parse the arguments and serve."""
    # Read by the libraries when they are loaded, so set before the imports below. One thread: the
    # matrix is small, and threads that wait for each other on a busy machine cost half a second.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  composition root
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # noqa: TID251  composition root
    from mlops.serving.process import argument_parser, run, settings_of  # noqa: PLC0415

    parser = argument_parser("python -m mlops.serving", "Serve one version of the model.")
    try:
        settings = settings_of(parser.parse_args(), os.environ)  # noqa: TID251  composition root
    except ValueError as error:
        parser.error(str(error))
    return run(settings, wrap=lambda app: app)


if __name__ == "__main__":
    sys.exit(main())
