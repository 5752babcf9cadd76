"""Grafana's dashboards as Python; `python -m grafana` writes them as JSON."""
