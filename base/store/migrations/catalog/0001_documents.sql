-- Documents with a generation for compare-and-swap, and the outbox that carries ledger records.
CREATE TABLE document (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    generation INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (collection, key)
) WITHOUT ROWID;

CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    record BLOB NOT NULL
);
