-- Streams are offsets, not acknowledgements: a consumer keeps its own.
CREATE TABLE event (
    stream TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (stream, sequence)
) WITHOUT ROWID;

CREATE TABLE stream (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
