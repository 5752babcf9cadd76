"""Make the documentation's pictures of the console from what `make test-console` photographed."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

PICTURES = {
    "overview-light-1280": "console-overview",
    "release-light-1280": "console-release",
    "overview-dark-360": "console-phone",
}
MAX_WIDTH = 900
MAX_HEIGHT = 1400
COLOURS = 48


def main() -> int:
    source, target = Path("var/console"), Path("docs/img")
    target.mkdir(parents=True, exist_ok=True)
    for name, wanted in PICTURES.items():
        path = source / f"{name}.png"
        if not path.exists():
            print(f"{path} is not there; `make test-console` makes it", file=sys.stderr)
            return 1
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small = small.crop((0, 0, small.width, min(small.height, MAX_HEIGHT)))
            small.thumbnail((MAX_WIDTH, MAX_HEIGHT))
            small.quantize(COLOURS).save(target / f"{wanted}.png", optimize=True)
        print(
            f"{target / wanted}.png: {(target / wanted).with_suffix('.png').stat().st_size} bytes"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
