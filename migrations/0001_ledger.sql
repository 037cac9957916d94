-- What only history knows. Objects are keyed `Kind/namespace/name`, the namespace empty for cluster kinds; instants are RFC 3339; the rest is JSON.

CREATE TABLE objects (
    object     TEXT    NOT NULL PRIMARY KEY,
    uid        TEXT    NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    created    TEXT    NOT NULL,
    text       TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    origin     TEXT    NOT NULL,
    tombstone  TEXT
) STRICT;

-- Not bound to objects: what has no document, such as a namespace, holds leases and facts under a uid of its own.
CREATE TABLE leases (
    uid    TEXT    NOT NULL,
    object TEXT    NOT NULL,
    kind   TEXT    NOT NULL CHECK (kind IN ('port', 'subnet')),
    name   TEXT    NOT NULL,
    value  TEXT    NOT NULL,
    fixed  INTEGER NOT NULL,
    PRIMARY KEY (uid, kind, name)
) STRICT;
CREATE INDEX leases_by_object ON leases (object);

CREATE TABLE facts (
    uid   TEXT NOT NULL PRIMARY KEY,
    facts TEXT NOT NULL
) STRICT;

CREATE TABLE statuses (
    object TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    at     TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    object TEXT,
    event  TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_object ON events (object, id);

CREATE TABLE journal (
    id     INTEGER PRIMARY KEY,
    object TEXT NOT NULL,
    entry  TEXT NOT NULL
) STRICT;
CREATE INDEX journal_by_object ON journal (object, id);

CREATE TABLE settings (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
