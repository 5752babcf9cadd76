"""Feature Store: how rows get there, how complete they are, what queries look like."""

from grafana.panels import Page, Panel, Prometheus, clickhouse, or_none

_ROUTES = "route IN (${route:singlequote})"

PAGE = Page(
    uid="feature-store",
    title="Feature Store",
    description="Query patterns and the quality of what is logged.",
    variables=("route",),
    panels=(
        Panel(
            title="Rows per second",
            description="Rows that ClickHouse acknowledged.",
            unit="short",
            kind="stat",
            width=6,
            queries=(Prometheus("sum(rate(recorder_rows_total[1m]))", "rows"),),
        ),
        Panel(
            title="Completeness",
            description="Rows stored over requests answered, of the least complete route and arm, in the "
            "last minute that every worker has told of.",
            unit="percentunit",
            kind="stat",
            width=6,
            most=1,
            thresholds=((None, "red"), (0.999, "yellow"), (1.0, "green")),
            queries=(Prometheus('min(log_completeness_ratio{route=~"$route"})', "complete"),),
        ),
        Panel(
            title="Lag",
            description="Age of the oldest record that was read and is not acknowledged.",
            unit="s",
            kind="stat",
            width=6,
            thresholds=((None, "green"), (15, "yellow"), (60, "red")),
            queries=(Prometheus("max(spool_lag_seconds)", "lag"),),
        ),
        Panel(
            title="Dead letters",
            description="Records that could not become rows, since the recorders started.",
            unit="short",
            kind="stat",
            width=6,
            thresholds=((None, "green"), (1, "red")),
            queries=(Prometheus("sum(recorder_dead_letters_total)", "letters"),),
        ),
        Panel(
            title="Rows stored",
            description="Rows acknowledged per second, by recorder.",
            unit="short",
            queries=(Prometheus("rate(recorder_rows_total[1m])", "{{instance}}"),),
        ),
        Panel(
            title="Completeness by arm",
            description="Below 1, evidence is not trusted and no release advances.",
            unit="percentunit",
            most=1,
            least=None,
            thresholds=((None, "red"), (1.0, "green")),
            queries=(Prometheus('log_completeness_ratio{route=~"$route"}', "{{route}} {{arm}}"),),
        ),
        Panel(
            title="Lag of the log",
            description="How late rows reach ClickHouse. Above 15 s the agent renews no lease.",
            unit="s",
            thresholds=((None, "green"), (15, "yellow"), (60, "red")),
            queries=(Prometheus("spool_lag_seconds", "{{instance}}"),),
        ),
        Panel(
            title="Spool on disk",
            description="Size of all segments. It grows while ClickHouse is away, up to the spool's limit.",
            unit="bytes",
            queries=(Prometheus("spool_bytes", "{{instance}}"),),
        ),
        Panel(
            title="Inserts repeated or split",
            description="Repeated: ClickHouse was away. Split: it refused a batch, and the bad record was "
            "looked for.",
            unit="ops",
            soft_most=1,
            queries=(
                Prometheus("rate(recorder_retries_total[5m])", "repeated {{instance}}"),
                Prometheus("rate(recorder_splits_total[5m])", "split {{instance}}"),
            ),
        ),
        Panel(
            title="Rows without all features",
            description="Share of rows by what was missing, as the extractor says it. `complete` is none.",
            unit="percentunit",
            most=1,
            stacked=True,
            queries=(
                clickhouse(f"""
SELECT time, missing, rows / sum(rows) OVER (PARTITION BY time) AS share
FROM (
  SELECT $__timeInterval(ended_at) AS time, if(features_missing = '', 'complete', features_missing) AS missing,
    count() AS rows
  FROM query_features WHERE $__timeFilter(ended_at) AND {_ROUTES}
  GROUP BY time, missing
)
ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Evidence of drift",
            description="Of each feature that the agent watches, on a logarithmic scale; at 1 the alarm goes off. "
            "0 while it learns what a route's queries are like.",
            unit="percentunit",
            most=1,
            thresholds=((None, "green"), (1, "red")),
            queries=(
                Prometheus(
                    or_none(
                        'max by (route, feature) (agent_drift_evidence_ratio{route=~"$route"})',
                        "feature",
                    ),
                    "{{route}} {{feature}}",
                ),
            ),
        ),
        Panel(
            title="Shift of the queries",
            description="Distance of the mean embedding from that of the whole chosen time, in spreads of one "
            "query. To look at; what is drift and what is noise, the panel before tells.",
            unit="none",
            queries=(
                clickhouse(f"""
WITH whole AS (
  SELECT route, dims, sumForEach(sum) AS total, sum(count) AS n, sum(squares) AS squared
  FROM embedding_sums WHERE $__timeFilter(second) AND {_ROUTES} AND dims > 0
  GROUP BY route, dims HAVING n > 0
)
SELECT part.time AS time, part.route AS route,
  L2Distance(arrayMap(x -> x / part.n, part.total), arrayMap(x -> x / whole.n, whole.total))
  / sqrt(greatest(whole.squared / whole.n - L2SquaredNorm(arrayMap(x -> x / whole.n, whole.total)), 1e-12)) AS shift
FROM (
  SELECT $__timeInterval(second) AS time, route, dims, sumForEach(sum) AS total, sum(count) AS n
  FROM embedding_sums WHERE $__timeFilter(second) AND {_ROUTES} AND dims > 0
  GROUP BY time, route, dims HAVING n > 0
) AS part
INNER JOIN whole ON part.route = whole.route AND part.dims = whole.dims
ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Length of the queries",
            description="Characters of the query text: median and P95.",
            unit="short",
            queries=(
                clickhouse(f"""
SELECT $__timeInterval(ended_at) AS time, quantile(0.5)(lengthUTF8(query_text)) AS P50,
  quantile(0.95)(lengthUTF8(query_text)) AS P95
FROM query_features
WHERE $__timeFilter(ended_at) AND {_ROUTES} AND query_text IS NOT NULL
GROUP BY time ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Queries by script",
            description="In what script the texts begin: a new language shows here first.",
            unit="short",
            stacked=True,
            queries=(
                clickhouse(f"""
SELECT $__timeInterval(second) AS time, script.1 AS script_name, sum(script.2) AS queries
FROM embedding_sums ARRAY JOIN CAST(scripts, 'Array(Tuple(String, UInt64))') AS script
WHERE $__timeFilter(second) AND {_ROUTES}
GROUP BY time, script_name ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Documents found",
            description="Mean number of documents in an answer, by version.",
            unit="short",
            queries=(
                clickhouse(f"""
SELECT $__timeInterval(ended_at) AS time, version, avg(retrieved_count) AS documents
FROM query_features
WHERE $__timeFilter(ended_at) AND {_ROUTES} AND retrieved_count IS NOT NULL
GROUP BY time, version ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Samples for training",
            description="Served rows with text and score, by day: what retraining can use.",
            unit="short",
            style="bars",
            least=0,
            queries=(
                clickhouse(f"""
SELECT toStartOfDay(ended_at) AS time, count() AS samples
FROM query_features
WHERE $__timeFilter(ended_at) AND {_ROUTES} AND kind = 'served' AND query_text IS NOT NULL
  AND relevance_score IS NOT NULL
GROUP BY time ORDER BY time
"""),
            ),
        ),
        Panel(
            title="Size of tables",
            description="On ClickHouse's disk, compressed, with rows and parts.",
            unit="short",
            kind="table",
            width=24,
            queries=(
                clickhouse(
                    """
SELECT table, sum(rows) AS rows, count() AS parts, formatReadableSize(sum(bytes_on_disk)) AS size,
  formatReadableSize(sum(data_uncompressed_bytes)) AS uncompressed, nullIf(min(min_time), toDateTime(0)) AS oldest
FROM system.parts
WHERE active AND database = currentDatabase()
GROUP BY table ORDER BY sum(bytes_on_disk) DESC
""",
                    is_series=False,
                ),
            ),
        ),
    ),
)
