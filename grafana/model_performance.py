"""Model Performance: accuracy, latency and error rates by version."""

from grafana.panels import Page, Panel, Prometheus, clickhouse, or_none

_OF = 'route=~"$route", version=~"$version"'
_OF_USERS = f'{_OF}, arm!="mirror"'
"""Without the copies of requests whose answers nobody sees."""
_COUNT = f"http_server_request_duration_seconds_count{{{_OF_USERS}}}"
_JUDGED = f'http_server_request_duration_seconds_count{{{_OF_USERS}, outcome!="cancelled"}}'
_ERRORS = (
    f"http_server_request_duration_seconds_count{{{_OF_USERS}, "
    'outcome=~"upstream_error|timeout|reset|truncated"}'
)
_USER_BUCKETS = f"route_arm_version_le:http_request_duration_seconds_bucket:rate5m{{{_OF_USERS}}}"
_BUCKETS = f"route_arm_version_le:http_request_duration_seconds_bucket:rate5m{{{_OF}}}"
_ROWS = """$__timeFilter(ended_at) AND kind = 'served'
  AND route IN (${route:singlequote}) AND version IN (${version:singlequote})"""

_LATENCY_BOUNDS = ((None, "green"), (1.0, "yellow"), (5.0, "red"))
_ERROR_BOUNDS = ((None, "green"), (0.01, "yellow"), (0.05, "red"))


def _quantile(q: float, name: str) -> Prometheus:
    return Prometheus(
        f"histogram_quantile({q}, sum by (version, le) ({_BUCKETS}))", f"{name} {{{{version}}}}"
    )


PAGE = Page(
    uid="model-performance",
    title="Model Performance",
    description="How well, how fast and how reliably each version answers.",
    variables=("route", "version"),
    has_releases=True,
    panels=(
        Panel(
            title="Throughput",
            description="Requests of users answered per second, over all arms; mirrored copies are left out.",
            unit="reqps",
            kind="stat",
            width=6,
            queries=(Prometheus(f"sum(rate({_COUNT}[1m]))", "requests"),),
        ),
        Panel(
            title="Error rate",
            description="Share of 5xx, 429, timeouts, resets and truncated answers in five minutes. "
            "Requests that the client cancelled, and mirrored copies, count for neither side.",
            unit="percentunit",
            kind="stat",
            width=6,
            thresholds=_ERROR_BOUNDS,
            queries=(
                Prometheus(
                    f"(sum(rate({_ERRORS}[5m])) or vector(0)) / sum(rate({_JUDGED}[5m]))", "errors"
                ),
            ),
        ),
        Panel(
            title="Latency P95",
            description="From the first byte of the request to the last of the answer.",
            unit="s",
            kind="stat",
            width=6,
            thresholds=_LATENCY_BOUNDS,
            queries=(
                Prometheus(f"histogram_quantile(0.95, sum by (le) ({_USER_BUCKETS}))", "P95"),
            ),
        ),
        Panel(
            title="Relevance",
            description="Mean relevance score that the model servers reported, in the chosen time.",
            unit="none",
            kind="stat",
            width=6,
            decimals=3,
            queries=(
                clickhouse(
                    f"SELECT avg(relevance_score) AS relevance FROM query_features WHERE {_ROWS}",
                    is_series=False,
                ),
            ),
        ),
        Panel(
            title="Requests by version",
            description="Answered per second, by version and the arm that users were assigned to.",
            unit="reqps",
            stacked=True,
            queries=(
                Prometheus(
                    f"sum by (version, arm) (route_arm_version:http_requests:rate1m{{{_OF}}})",
                    "{{version}} ({{arm}})",
                ),
            ),
        ),
        Panel(
            title="Error rate by version",
            description="As the stat above, by version and arm. The dashed lines are 1 and 5 %.",
            unit="percentunit",
            soft_most=0.1,
            thresholds=_ERROR_BOUNDS,
            queries=(
                Prometheus(
                    f"route_arm_version:http_errors:ratio_rate5m{{{_OF}}}", "{{version}} ({{arm}})"
                ),
            ),
        ),
        Panel(
            title="Errors by outcome",
            description="What came of the requests that were not answered well, per second.",
            unit="reqps",
            soft_most=1,
            stacked=True,
            queries=(
                Prometheus(
                    or_none(
                        "sum by (outcome) (rate(http_server_request_duration_seconds_count{"
                        f'{_OF}, outcome!="ok"}}[1m]))',
                        "outcome",
                    ),
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            title="Latency by version",
            description="Median, P95 and P99 over five minutes.",
            unit="s",
            thresholds=_LATENCY_BOUNDS,
            queries=(_quantile(0.5, "P50"), _quantile(0.95, "P95"), _quantile(0.99, "P99")),
        ),
        Panel(
            title="Time to first chunk, P95",
            description="From the first byte of the request to the first of the answer: what a person "
            "waits for where answers are streamed.",
            unit="s",
            queries=(
                Prometheus(
                    "histogram_quantile(0.95, sum by (version, le) "
                    f"(rate(http_server_time_to_first_chunk_seconds_bucket{{{_OF}}}[5m])))",
                    "{{version}}",
                ),
            ),
        ),
        Panel(
            title="Relevance by version",
            description="Mean relevance score that each version's servers reported. Two versions' own "
            "scores need not mean the same; late scores do.",
            unit="none",
            queries=(
                clickhouse(f"""
SELECT $__timeInterval(ended_at) AS time, version, avg(relevance_score) AS relevance
FROM query_features
WHERE {_ROWS} AND relevance_score IS NOT NULL
GROUP BY time, version ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Late scores",
            description="Mean of the scores that were sent to the agent after the answer "
            "(POST /v1/evaluations), by name and version.",
            unit="none",
            queries=(
                clickhouse("""
SELECT $__timeInterval(received_at) AS time, concat(name, ' ', answered_by) AS score_of, avg(score) AS score
FROM evaluations AS e FINAL
INNER JOIN (
  SELECT request_id, any(version) AS answered_by FROM query_features
  WHERE ended_at >= $__fromTime - INTERVAL 1 DAY AND route IN (${route:singlequote})
    AND version IN (${version:singlequote}) AND kind = 'served'
  GROUP BY request_id
) AS q ON e.request_id = q.request_id
WHERE $__timeFilter(received_at)
GROUP BY time, score_of ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Retrievals without a document",
            description="Share of the answers whose list of documents was empty, by arm.",
            unit="percentunit",
            soft_most=0.1,
            queries=(
                clickhouse("""
SELECT $__timeInterval(second) AS time, arm,
  sum(empty_retrievals) / sum(retrieval_known) AS empty
FROM second_counts
WHERE $__timeFilter(second) AND route IN (${route:singlequote})
GROUP BY time, arm HAVING sum(retrieval_known) > 0 ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Versions in the chosen time",
            description="What the log says of each version: first attempts that failed, latency, relevance.",
            unit="short",
            kind="table",
            width=24,
            queries=(
                clickhouse(
                    f"""
SELECT route, version, count() AS requests,
  round(100 * countIf(first_attempt_outcome IN ('upstream_error', 'timeout', 'reset', 'truncated')) / count(), 2)
    AS error_percent,
  round(quantile(0.5)(latency_us) / 1000, 1) AS p50_ms,
  round(quantile(0.95)(latency_us) / 1000, 1) AS p95_ms,
  round(quantile(0.99)(latency_us) / 1000, 1) AS p99_ms,
  round(avg(relevance_score), 3) AS relevance
FROM query_features WHERE {_ROWS}
GROUP BY route, version ORDER BY route, version
""",
                    is_series=False,
                ),
            ),
        ),
    ),
)
