-- Records by index, hashes by their stored index, and the newest checkpoint.
CREATE TABLE record (
    position INTEGER PRIMARY KEY,
    source INTEGER NOT NULL UNIQUE,
    data BLOB NOT NULL
);

CREATE TABLE hash (
    position INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
);

CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    checkpoint BLOB NOT NULL
);
