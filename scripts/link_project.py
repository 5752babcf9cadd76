"""Make the project importable from its virtual environment, and put `rag-mlops` on its path.

The same as an editable install, without a build backend to download first: a `.pth` file that
names the checkout and a small launcher. Works when the checkout's path has spaces in it.
"""

import site
import stat
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    packages = Path(next(p for p in site.getsitepackages() if p.endswith("site-packages")))
    (packages / "rag_mlops_checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    launcher = Path(sys.executable).parent / "rag-mlops"
    launcher.write_text(
        '#!/bin/sh\nexec "$(dirname "$0")/python" -W ignore::SyntaxWarning -m cli "$@"\n',
        encoding="utf-8",
    )
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
