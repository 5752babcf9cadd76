"""System Health: whether every part answers, and what it uses."""

from grafana.panels import Page, Panel, Prometheus, or_none

_UP = ((None, "red"), (1, "green"))


def _up(job: str, title: str, description: str) -> Panel:
    return Panel(
        title=title,
        description=description,
        unit="short",
        kind="stat",
        width=6,
        thresholds=_UP,
        queries=(Prometheus(f'sum(up{{job="{job}"}}) or vector(0)', "answer"),),
    )


def _overhead(q: float, name: str) -> Prometheus:
    rate = "rate(gateway_overhead_seconds_bucket[5m])"
    return Prometheus(f"histogram_quantile({q}, sum by (le) ({rate}))", name)


_DISKS = 'fstype!~"tmpfs|overlay|squashfs"'

PAGE = Page(
    uid="system-health",
    title="System Health",
    description="Whether every part answers, and what it uses.",
    panels=(
        _up("gateway", "Gateways", "Gateways whose metrics can be read."),
        _up("recorder", "Recorders", "Recorders whose metrics can be read."),
        Panel(
            title="Agent leads",
            description="1 while exactly one agent acts. Without one, canaries go to stable as leases end.",
            unit="short",
            kind="stat",
            width=6,
            thresholds=_UP,
            queries=(Prometheus("sum(agent_leader) or vector(0)", "leaders"),),
        ),
        Panel(
            title="Alerts firing",
            description="Each has a page under docs/runbooks.",
            unit="short",
            kind="stat",
            width=6,
            thresholds=((None, "green"), (1, "red")),
            queries=(Prometheus('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),),
        ),
        Panel(
            title="Services that answer",
            description="1 while Prometheus can read a service's metrics.",
            unit="short",
            most=1,
            thresholds=_UP,
            queries=(Prometheus("min by (job) (up)", "{{job}}"),),
        ),
        Panel(
            title="Servers of models",
            description="1 while every worker of the gateway finds the endpoint healthy.",
            unit="short",
            most=1,
            queries=(
                Prometheus(
                    "min by (route, slot, endpoint) (gateway_upstream_healthy)",
                    "{{route}} {{slot}} {{endpoint}}",
                ),
            ),
        ),
        Panel(
            title="Connections to model servers",
            description="Open ones, and requests that wait for one: waiting means that a server is too slow.",
            unit="short",
            queries=(
                Prometheus("sum by (endpoint) (gateway_upstream_connections)", "open {{endpoint}}"),
                Prometheus("sum by (endpoint) (gateway_upstream_pending)", "wait {{endpoint}}"),
            ),
        ),
        Panel(
            title="Exchanges and clients",
            description="Requests being answered and clients connected, over all gateways.",
            unit="short",
            queries=(
                Prometheus("sum(gateway_in_flight)", "exchanges"),
                Prometheus("sum(gateway_client_connections)", "clients"),
            ),
        ),
        Panel(
            title="Time that the gateway adds",
            description="Its own part of a request: everything but the model server.",
            unit="s",
            queries=(_overhead(0.5, "P50"), _overhead(0.99, "P99")),
        ),
        Panel(
            title="Requests refused",
            description="Answered by the gateway before they had a route: bad HTTP, limits, no route.",
            unit="reqps",
            soft_most=1,
            queries=(
                Prometheus(
                    or_none("sum by (status) (rate(gateway_requests_refused_total[5m]))", "status"),
                    "{{status}}",
                ),
            ),
        ),
        Panel(
            title="Records dropped",
            description="By the spool, per second and reason. Requests are answered all the same; the log "
            "is then incomplete for good.",
            unit="ops",
            soft_most=1,
            thresholds=((None, "green"), (0.001, "red")),
            queries=(
                Prometheus(
                    or_none("sum by (reason) (rate(gateway_spool_dropped_total[5m]))", "reason"),
                    "{{reason}}",
                ),
            ),
        ),
        Panel(
            title="Workers replaced",
            description="Worker processes of gateways that ended and were started again, in five minutes.",
            unit="short",
            soft_most=2,
            thresholds=((None, "green"), (1, "red")),
            queries=(
                Prometheus(
                    "sum by (instance) (increase(gateway_worker_restarts_total[5m]))",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            title="CPU of workers",
            description="Cores that each worker process of a gateway uses; 1 is all that it can.",
            unit="none",
            thresholds=((None, "green"), (0.8, "yellow"), (0.95, "red")),
            queries=(
                Prometheus(
                    "rate(gateway_worker_cpu_seconds_total[1m])", "{{instance}} worker {{worker}}"
                ),
            ),
        ),
        Panel(
            title="Memory of workers",
            description="Resident memory of each worker process of a gateway.",
            unit="bytes",
            queries=(
                Prometheus(
                    "gateway_worker_resident_memory_bytes", "{{instance}} worker {{worker}}"
                ),
            ),
        ),
        Panel(
            title="CPU of the machine",
            description="Share of all cores that is not idle.",
            unit="percentunit",
            most=1,
            thresholds=((None, "green"), (0.8, "yellow"), (0.95, "red")),
            queries=(
                Prometheus(
                    '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[1m]))',
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            title="Memory of the machine",
            description="Share that programs could still have.",
            unit="percentunit",
            most=1,
            thresholds=((None, "red"), (0.1, "yellow"), (0.2, "green")),
            queries=(
                Prometheus(
                    "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"
                ),
            ),
        ),
        Panel(
            title="Disk free",
            description="Share of each file system. Below a tenth, or full within four hours, an alert goes off.",
            unit="percentunit",
            most=1,
            thresholds=((None, "red"), (0.1, "yellow"), (0.2, "green")),
            queries=(
                Prometheus(
                    f"node_filesystem_avail_bytes{{{_DISKS}}} / node_filesystem_size_bytes{{{_DISKS}}}",
                    "{{mountpoint}}",
                ),
            ),
        ),
        Panel(
            title="A cycle of the agent",
            description="Wall time of one look, decision and publish: P99 over five minutes.",
            unit="s",
            thresholds=((None, "green"), (1, "red")),
            queries=(
                Prometheus(
                    "histogram_quantile(0.99, sum by (le) (rate(agent_cycle_seconds_bucket[5m])))",
                    "P99",
                ),
            ),
        ),
        Panel(
            title="Waiting at the agent",
            description="Notices that no target took yet, and events that ClickHouse lacks.",
            unit="short",
            soft_most=2,
            thresholds=((None, "green"), (1, "yellow")),
            queries=(
                Prometheus("sum(agent_notices_waiting)", "notices"),
                Prometheus("sum(agent_events_waiting)", "events"),
            ),
        ),
    ),
)
