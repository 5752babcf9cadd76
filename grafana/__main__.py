"""`python -m grafana`: write grafana/dashboards/*.json."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import feature_store, model_performance, release, system_health, training_pipeline
from grafana.panels import Page, build_dashboard

DIRECTORY = Path(__file__).parent / "dashboards"

PAGES: tuple[Page, ...] = (
    model_performance.PAGE,
    training_pipeline.PAGE,
    feature_store.PAGE,
    system_health.PAGE,
    release.PAGE,
)


def text_of(page: Page) -> str:
    encoder = JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False)
    return encoder.encode(build_dashboard(page)) + "\n"


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for page in PAGES:
        (DIRECTORY / f"{page.uid}.json").write_text(text_of(page), encoding="utf-8")


if __name__ == "__main__":
    main()
