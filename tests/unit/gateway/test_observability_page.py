"""What docs/observability.md names exists: metrics, keys of the file and fields of a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gateway.access_log import Line
from gateway.config import parse
from gateway.settings import ObserveSettings

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")

ROUTE = """
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: "1", endpoints: ["http://127.0.0.1:8011"]}
"""


def test_every_metric_it_names_is_one():
    sources = "".join(
        (ROOT / "gateway" / name).read_text(encoding="utf-8")
        for name in ("metrics.py", "recorder/metrics.py")
    )
    named = set(re.findall(r"`((?:gateway|http_server|recorder)_[a-z_]+)\*?`", PAGE))
    assert len(named) >= 12
    for name in named:
        base = name.removesuffix("_total")
        short = base.removeprefix("recorder_")  # the recorder adds its prefix itself
        assert f'"{base}' in sources or f'"{short}"' in sources, name


def test_the_file_it_shows_says_the_defaults():
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert parse(block[1] + ROUTE, {}).observe == ObserveSettings()
    uncommented = block[1].replace("# access_log", "access_log")
    assert parse(uncommented + ROUTE, {}).observe.access_log is not None


def test_the_line_it_shows_has_every_field():
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert list(json.loads(block[1])) == list(Line.__struct_fields__)
