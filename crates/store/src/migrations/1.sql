-- One row per exchange, in the order in which they ended. Numbers are never given twice, so that a reader can ask for what came after one.
CREATE TABLE exchanges (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    endpoint  TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    failover  INTEGER NOT NULL,
    served_by TEXT,
    record    TEXT    NOT NULL
) STRICT;
CREATE INDEX exchanges_by_id ON exchanges (id);
CREATE INDEX exchanges_by_time ON exchanges (at_ms);

-- What is added up: who was asked, and what it took.
CREATE TABLE attempts (
    exchange           INTEGER NOT NULL REFERENCES exchanges (seq) ON DELETE CASCADE,
    place              INTEGER NOT NULL,
    at_ms              INTEGER NOT NULL,
    profile            TEXT    NOT NULL,
    model              TEXT,
    class              TEXT,
    served             INTEGER NOT NULL,
    wasted             INTEGER NOT NULL,
    maybe_billed       INTEGER NOT NULL,
    input              INTEGER,
    output             INTEGER,
    cache_read         INTEGER,
    cache_write        INTEGER,
    est_cost_micro_usd INTEGER,
    PRIMARY KEY (exchange, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_by_time ON attempts (at_ms);

-- What was learned; nothing here outlives its evidence.
CREATE TABLE state (
    kind          TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    value         TEXT    NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
