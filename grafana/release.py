"""Release: where a release stands, what decides it, and what was done by whom."""

from grafana.panels import Page, Panel, Prometheus, clickhouse

_ROUTE = 'route=~"$route"'
_OF_USERS = f'{_ROUTE}, arm!="mirror"'
"""Without the copies of requests whose answers nobody sees."""

PAGE = Page(
    uid="release",
    title="Release",
    description="Where a release stands, what decides it, and what was done by whom.",
    variables=("route",),
    has_releases=True,
    panels=(
        Panel(
            title="Phase",
            description="Of the route's newest release.",
            unit="none",
            kind="stat",
            width=6,
            texts=True,
            queries=(
                Prometheus(
                    f"agent_release_phase{{{_ROUTE}}} == 1", "{{route}}: {{phase}}", instant=True
                ),
            ),
        ),
        Panel(
            title="Verdict",
            description="healthy: no worse than the margins. regressed: it is rolled back. undecided: too "
            "little evidence. invalid: the evidence cannot be trusted.",
            unit="none",
            kind="stat",
            width=6,
            texts=True,
            queries=(
                Prometheus(
                    f"agent_release_verdict{{{_ROUTE}}} == 1",
                    "{{route}}: {{verdict}}",
                    instant=True,
                ),
            ),
        ),
        Panel(
            title="Weight asked for",
            description="Percent of the traffic asked for the release's version.",
            unit="percent",
            kind="stat",
            width=4,
            most=100,
            queries=(Prometheus(f"agent_release_weight{{{_ROUTE}}}", "{{route}}"),),
        ),
        Panel(
            title="Age of the evidence",
            description="How far the complete log is behind. Above 15 s no lease is renewed.",
            unit="s",
            kind="stat",
            width=4,
            thresholds=((None, "green"), (10, "yellow"), (15, "red")),
            queries=(Prometheus(f"max(agent_evidence_age_seconds{{{_ROUTE}}})", "age"),),
        ),
        Panel(
            title="Since it began",
            description="How long the route's newest release has been running, or ran.",
            unit="s",
            kind="stat",
            width=4,
            queries=(Prometheus(f"agent_release_duration_seconds{{{_ROUTE}}}", "{{route}}"),),
        ),
        Panel(
            title="Share in force",
            description="Of the requests, by arm, as gateways have it: asked for, and not lapsed.",
            unit="percentunit",
            most=1,
            stacked=True,
            queries=(
                Prometheus(
                    f"avg by (route, arm) (gateway_share_ratio{{{_ROUTE}}})", "{{route}} {{arm}}"
                ),
            ),
        ),
        Panel(
            title="Split that was served",
            description="Share of users' answered requests by arm, over a minute. It follows the share in force.",
            unit="percentunit",
            most=1,
            queries=(
                Prometheus(
                    f"sum by (route, arm) (route_arm_version:http_requests:rate1m{{{_OF_USERS}}}) "
                    "/ on (route) group_left "
                    f"sum by (route) (route_arm_version:http_requests:rate1m{{{_OF_USERS}}})",
                    "{{route}} {{arm}}",
                ),
            ),
        ),
        Panel(
            title="Evidence for a regression",
            description="E-value of each check, on a logarithmic axis. At the inverse of the check's share of "
            "alpha (1/0.05 is 20) the release is rolled back.",
            unit="sci",
            logarithmic=True,
            least=None,
            thresholds=((None, "green"), (20, "red")),
            queries=(
                Prometheus(f"agent_release_metric_analysis{{{_ROUTE}}}", "{{route}} {{metric}}"),
            ),
        ),
        Panel(
            title="Errors by arm",
            description="Share of first attempts that failed, charged to the assigned arm: what the judge "
            "compares.",
            unit="percentunit",
            soft_most=0.1,
            queries=(
                clickhouse("""
SELECT $__timeInterval(second) AS time, concat(route, ' ', arm) AS arm_of_route, sum(errors) / sum(requests) AS errors
FROM second_counts
WHERE $__timeFilter(second) AND route IN (${route:singlequote})
GROUP BY time, arm_of_route HAVING sum(requests) > 0 ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Latency by arm, P95",
            description="Over five minutes, by the arm that users were assigned to.",
            unit="s",
            queries=(
                Prometheus(
                    "histogram_quantile(0.95, sum by (route, arm, le) "
                    f"(route_arm_version_le:http_request_duration_seconds_bucket:rate5m{{{_ROUTE}}}))",
                    "{{route}} {{arm}}",
                ),
            ),
        ),
        Panel(
            title="Requests by arm",
            description="What each arm has been answered, per second, as the log has it.",
            unit="reqps",
            queries=(
                clickhouse("""
SELECT second AS time, concat(route, ' ', arm) AS arm_of_route, sum(requests) AS requests
FROM second_counts
WHERE $__timeFilter(second) AND route IN (${route:singlequote})
GROUP BY time, arm_of_route ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Generation",
            description="Number of the live plan on each gateway. Gateways agree where the lines do.",
            unit="none",
            least=None,
            decimals=0,
            queries=(Prometheus(f"gateway_plan_generation{{{_ROUTE}}}", "{{route}} {{instance}}"),),
        ),
        Panel(
            title="Lease",
            description="Seconds until an unwatched plan ends and everything goes to stable. No line: a plan "
            "without a lease.",
            unit="s",
            thresholds=((None, "red"), (5, "green")),
            queries=(
                Prometheus(
                    f"gateway_lease_remaining_seconds{{{_ROUTE}}}", "{{route}} {{instance}}"
                ),
            ),
        ),
        Panel(
            title="Held or lapsed",
            description="Held: a person's plan, which the agent leaves alone. Lapsed: the lease ended.",
            unit="short",
            most=1,
            thresholds=((None, "green"), (1, "red")),
            queries=(
                Prometheus(f"max by (route) (gateway_plan_hold{{{_ROUTE}}})", "{{route}} held"),
                Prometheus(
                    f"max by (route) (gateway_lease_lapsed{{{_ROUTE}}})", "{{route}} lapsed"
                ),
            ),
        ),
        Panel(
            title="Releases that ended",
            description="Since the agent started, by how they ended.",
            unit="short",
            queries=(
                Prometheus(f"sum by (status) (agent_releases_total{{{_ROUTE}}})", "{{status}}"),
            ),
        ),
        Panel(
            title="Journal",
            description="Who did what, from which share to which, and why. Newest first.",
            unit="short",
            kind="table",
            width=24,
            widths={
                "at": 180,
                "route": 120,
                "kind": 170,
                "actor": 120,
                "from_percent": 120,
                "to_percent": 110,
            },
            queries=(
                clickhouse(
                    """
SELECT at, route, kind, actor, from_share_bp / 100 AS from_percent, to_share_bp / 100 AS to_percent, reason
FROM release_events FINAL
WHERE $__timeFilter(at) AND route IN (${route:singlequote})
ORDER BY at DESC LIMIT 200
""",
                    is_series=False,
                ),
            ),
        ),
    ),
)
