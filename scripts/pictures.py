"""Make the docs' pictures from what a test photographed: `pictures.py console|dashboards`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

TARGET = Path("docs/img")
MAX_WIDTH = 900
MAX_HEIGHT = 1400
COLOURS = 48


@dataclass(frozen=True, slots=True)
class Shown:
    """Photographs in `source`, left by `make` of `test`, and the names of their pictures."""

    source: Path
    test: str
    pictures: dict[str, str]


SETS = {
    "console": Shown(
        Path("var/console"),
        "test-console",
        {
            "overview-light-1280": "console-overview",
            "release-light-1280": "console-release",
            "overview-dark-360": "console-phone",
        },
    ),
    "dashboards": Shown(
        Path("var/dashboards"),
        "test-dashboards",
        {
            "release-dark": "dashboard-release-dark",
            "release-light": "dashboard-release-light",
            "model-performance-dark": "dashboard-model-performance",
            "training-pipeline-light": "dashboard-training-pipeline",
            "feature-store-light": "dashboard-feature-store",
            "system-health-dark": "dashboard-system-health",
        },
    ),
}


def main(name: str) -> int:
    shown = SETS[name]
    TARGET.mkdir(parents=True, exist_ok=True)
    for photograph, wanted in shown.pictures.items():
        path = shown.source / f"{photograph}.png"
        if not path.exists():
            print(f"{path} is not there; `make {shown.test}` makes it", file=sys.stderr)
            return 1
        made = TARGET / f"{wanted}.png"
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small = small.crop((0, 0, small.width, min(small.height, MAX_HEIGHT)))
            small.thumbnail((MAX_WIDTH, MAX_HEIGHT))
            small.quantize(COLOURS).save(made, optimize=True)
        print(f"{made}: {made.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
