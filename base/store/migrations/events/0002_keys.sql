-- What entries are called by those who appended them, as hashes: an entry may be found by it.
CREATE TABLE entry_key (
    hash INTEGER NOT NULL,
    stream TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (hash, stream, sequence)
) WITHOUT ROWID;

CREATE INDEX entry_key_by_place ON entry_key (stream, sequence);
