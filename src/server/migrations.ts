/** The registry's schema, version by version. A version that was released is never edited: add the next one. */

/** SQL that leads from version n (PRAGMA user_version) to n + 1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE devices (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    node          TEXT NOT NULL,
    mac           TEXT NOT NULL,
    board_mac     TEXT NOT NULL,
    model         TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    public_key    TEXT NOT NULL UNIQUE,   -- "ssh-ed25519 AAAA…", no comment
    accepted_at   TEXT NOT NULL,          -- ISO 8601, UTC, as all times
    accepted_by   TEXT NOT NULL,
    revoked_at    TEXT
  ) STRICT;
  CREATE UNIQUE INDEX devices_node ON devices (node) WHERE revoked_at IS NULL;
  CREATE UNIQUE INDEX devices_mac  ON devices (mac)  WHERE revoked_at IS NULL;
  CREATE TABLE certificates (
    serial     INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice
    device_id  INTEGER NOT NULL REFERENCES devices (id),
    issued_at  TEXT NOT NULL,
    expires_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX certificates_device ON certificates (device_id, serial);
  `,
  `
  CREATE TABLE invitations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT NOT NULL CHECK (kind IN ('token', 'board')),
    token_hash    TEXT UNIQUE,            -- SHA-256 in hexadecimal; of kind 'token'
    mac           TEXT,                   -- of the board; of kind 'board', where at least one of the two is told
    serial_number TEXT,
    note          TEXT NOT NULL,
    uses          INTEGER NOT NULL,
    used          INTEGER NOT NULL DEFAULT 0,
    expires_at    TEXT NOT NULL,
    added_at      TEXT NOT NULL,
    added_by      TEXT NOT NULL,
    withdrawn_at  TEXT
  ) STRICT;
  `,
  `
  ALTER TABLE devices ADD COLUMN address TEXT;   -- the node's IPv4 address on a managed walt-net
  -- The first three bytes of nodes' MAC addresses: locally administered, and this server's own, so that no device
  -- gets the address of another machine by what it says of its board.
  CREATE TABLE node_range (prefix TEXT NOT NULL) STRICT;
  INSERT INTO node_range VALUES (printf('d6:%s:%s', lower(hex(randomblob(1))), lower(hex(randomblob(1)))));
  `,
  // Fingerprints of the server's keys that a board has confirmed to have, separated by blanks.
  "ALTER TABLE devices ADD COLUMN has_keys TEXT NOT NULL DEFAULT ''",
  `
  ALTER TABLE devices ADD COLUMN default_name TEXT NOT NULL DEFAULT '';   -- vpn-010203, whatever the node is called
  UPDATE devices SET default_name = node;
  CREATE UNIQUE INDEX devices_default_name ON devices (default_name) WHERE revoked_at IS NULL;
  ALTER TABLE devices ADD COLUMN note TEXT NOT NULL DEFAULT '';
  CREATE TABLE journal (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL,
    kind    TEXT NOT NULL,                -- an event of the log
    node    TEXT,                         -- what it was called then
    device  INTEGER REFERENCES devices (id),
    by      TEXT,                         -- an operator
    details TEXT NOT NULL,                -- JSON, an object
    origin  TEXT NOT NULL,                -- 'operator', 'device' or 'stranger': whose share of the journal it takes
    account TEXT NOT NULL                 -- which one of them
  ) STRICT;
  CREATE INDEX journal_device ON journal (device, id);
  CREATE INDEX journal_account ON journal (origin, account, id);
  CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
    BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;
  `,
  `
  -- Whether a revoked device is told to forget its key and ask again: 'no', 'ordered', or 'told' once it was.
  ALTER TABLE devices ADD COLUMN reenrol TEXT NOT NULL DEFAULT 'no';
  -- When a device's tunnel was known to be up last, and how the last one ended.
  CREATE TABLE presence (
    device   INTEGER PRIMARY KEY,
    seen_at  TEXT NOT NULL,
    ended_at TEXT,                        -- null while the tunnel is up; also when the server was killed then
    end      TEXT,                        -- the kind, of EndKind
    reason   TEXT
  ) STRICT;
  -- The journal once more, without a reference: it tells of devices that were removed.
  CREATE TABLE journal_new (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL,
    kind    TEXT NOT NULL,
    node    TEXT,
    device  INTEGER,
    by      TEXT,
    details TEXT NOT NULL,
    origin  TEXT NOT NULL,
    account TEXT NOT NULL
  ) STRICT;
  INSERT INTO journal_new SELECT * FROM journal;
  DROP TABLE journal;
  ALTER TABLE journal_new RENAME TO journal;
  CREATE INDEX journal_device ON journal (device, id);
  CREATE INDEX journal_account ON journal (origin, account, id);
  CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal
    BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;
  `,
];
