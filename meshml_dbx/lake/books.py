"""The books in detail, as views: of each minute of a sidecar, and of logs that others write.

Goes in: the tables' own schema. Comes out: each view's comment and query, for ``views``.
"""

LEDGER_MINUTES = (
    "What each sidecar's counters say it finished in a minute, against the rows that ended in it; "
    "calls in flight are carried over, and a minute ends with its last sample. Ask for one "
    "sidecar_id, so that only its rows are read",
    """
    WITH counted AS (
      SELECT sidecar_id, date_trunc('minute', time) AS minute, max(time) AS told_at,
        max_by(requests_total, time) AS total,
        max_by(coalesce(requests_active, 0), time) AS active
      FROM {schema}.samples WHERE requests_total IS NOT NULL
      GROUP BY sidecar_id, date_trunc('minute', time)
    ),
    sampled AS (
      SELECT sidecar_id, minute, active, total - coalesce(lag(total) OVER minutes, 0) AS started,
        coalesce(lag(active) OVER minutes, 0) AS carried
      FROM counted WINDOW minutes AS (PARTITION BY sidecar_id ORDER BY minute)
    ),
    ends AS (
      SELECT sidecar_id, timestamp_micros(unix_micros(start_time) + duration_us) AS ended
      FROM {schema}.calls WHERE format IS NULL
      UNION ALL
      SELECT sidecar_id, timestamp_micros(unix_micros(start_time) + duration_us) AS ended
      FROM {schema}.tunnels WHERE type = 'DownstreamEnd'
    ),
    parts AS (
      SELECT sidecar_id, minute, carried, started, active, 0 AS n FROM sampled
      UNION ALL
      SELECT e.sidecar_id, date_trunc('minute', e.ended)
          + if(e.ended > c.told_at, INTERVAL 1 MINUTE, INTERVAL 0 MINUTE) AS minute,
        NULL AS carried, NULL AS started, NULL AS active, 1 AS n
      FROM ends e LEFT JOIN counted c
        ON c.sidecar_id = e.sidecar_id AND c.minute = date_trunc('minute', e.ended)
    ),
    books AS (
      SELECT sidecar_id, minute, max(carried) AS active_before, max(started) AS started,
        max(carried + started - active) AS finished, max(active) AS active_after, sum(n) AS rows
      FROM parts GROUP BY sidecar_id, minute
    )
    SELECT *, finished - rows AS lost, sum(coalesce(finished, 0) - rows) OVER (
      PARTITION BY sidecar_id ORDER BY minute) AS lost_so_far
    FROM books
    """,
)

LEDGER_SOURCES = (
    "Of each source of logs that others write: lines read, what they became, and how many are "
    "unexplained: 0, or what meshml prune has removed since; null where a batch had several "
    "sources",
    """
    WITH files AS (
      SELECT batch, sidecar_id, count(*) AS files, sum(bytes) AS bytes
      FROM {schema}.log_files WHERE state = 'begun' AND format IS NOT NULL
      GROUP BY batch, sidecar_id
    ),
    shared AS (SELECT batch, count(*) AS sources FROM files GROUP BY batch),
    done AS (
      SELECT batch, sum(coalesce(ended, 0) + coalesce(attempts, 0) + coalesce(connections, 0)
          + coalesce(progress, 0) + coalesce(unknown, 0)) AS lines,
        sum(coalesce(progress, 0)) AS progress, sum(coalesce(duplicates, 0)) AS duplicates
      FROM {schema}.log_files WHERE state = 'done' GROUP BY batch
    ),
    taken AS (
      SELECT f.sidecar_id, sum(f.files) AS files, sum(f.bytes) AS bytes,
        bool_and(s.sources = 1 AND d.batch IS NOT NULL) AS known, sum(d.lines) AS lines,
        sum(d.progress) AS progress, sum(d.duplicates) AS duplicates
      FROM files f JOIN shared s ON s.batch = f.batch LEFT JOIN done d ON d.batch = f.batch
      GROUP BY f.sidecar_id
    ),
    stored AS (
      SELECT sidecar_id, count(*) AS rows FROM (
        SELECT sidecar_id FROM {schema}.calls WHERE format IS NOT NULL
        UNION ALL SELECT sidecar_id FROM {schema}.attempts WHERE format IS NOT NULL
        UNION ALL SELECT sidecar_id FROM {schema}.connections WHERE format IS NOT NULL)
      GROUP BY sidecar_id
    ),
    kept AS (
      SELECT sidecar_id, count(*) AS quarantined FROM {schema}.quarantine
      WHERE replayed_at IS NULL GROUP BY sidecar_id
    ),
    books AS (
      SELECT t.sidecar_id AS source, t.files, t.bytes, if(known, lines, NULL) AS lines,
        if(known, progress, NULL) AS progress, if(known, duplicates, NULL) AS duplicates,
        coalesce(stored.rows, 0) AS rows, coalesce(kept.quarantined, 0) AS quarantined
      FROM taken t LEFT JOIN stored ON stored.sidecar_id = t.sidecar_id
        LEFT JOIN kept ON kept.sidecar_id = t.sidecar_id
    )
    SELECT *, lines - progress - duplicates - rows - quarantined AS unexplained FROM books
    """,
)
"""Progress lines tell of calls that go on: they become no row."""
