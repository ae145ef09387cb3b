-- Migration 1. Frozen: a change to the schema is a new file.

-- Facts about this host that are not rows of anything else.
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The one thin pool. `transaction_id` is that of the last operation acknowledged; `next_thin_id` only
-- grows, so that a device id is never used twice.
CREATE TABLE pool (
    only           INTEGER PRIMARY KEY CHECK (only = 1),
    name           TEXT NOT NULL,
    uuid           TEXT NOT NULL,
    data_kind      TEXT NOT NULL CHECK (data_kind IN ('file', 'device')),
    data_path      TEXT NOT NULL,
    data_bytes     INTEGER NOT NULL,
    metadata_kind  TEXT NOT NULL CHECK (metadata_kind IN ('file', 'device')),
    metadata_path  TEXT NOT NULL,
    -- A repair writes to the spare, and the two change places.
    spare_kind     TEXT NOT NULL CHECK (spare_kind IN ('file', 'device')),
    spare_path     TEXT NOT NULL,
    chunk_bytes    INTEGER NOT NULL,
    transaction_id INTEGER NOT NULL,
    next_thin_id   INTEGER NOT NULL
) STRICT;

-- The operation on the pool that has been begun and not yet settled.
CREATE TABLE pending (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    target    INTEGER NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('create', 'delete'))
) STRICT;

-- A thin device. `creating` and `deleting` rows belong to the pending operation or to a delete that has
-- to be gone through with; `importing` ones are being made and nobody's yet: an import that is being written,
-- a restore that has not come to its swap. `temporary` ones are snapshots that somebody reads, and go with the
-- daemon at the latest. `shrink_bytes` is the size to which a shrink that has begun goes.
CREATE TABLE volume (
    thin_id      INTEGER PRIMARY KEY,
    uuid         TEXT NOT NULL UNIQUE,
    state        TEXT NOT NULL CHECK (state IN ('creating', 'importing', 'temporary', 'ready', 'deleting')),
    in_pending   INTEGER NOT NULL DEFAULT 0 CHECK (in_pending IN (0, 1)),
    size_bytes   INTEGER NOT NULL,
    shrink_bytes INTEGER CHECK (shrink_bytes < size_bytes)
) STRICT;

-- `digest` is that of the whole disk; while a base VM may change the disk, it is not current.
CREATE TABLE image (
    name          TEXT PRIMARY KEY,
    thin_id       INTEGER NOT NULL UNIQUE REFERENCES volume (thin_id),
    owner_uid     INTEGER NOT NULL,
    template      TEXT NOT NULL,
    data_bytes    INTEGER NOT NULL,
    digest        TEXT NOT NULL,
    digest_is_current INTEGER NOT NULL DEFAULT 1 CHECK (digest_is_current IN (0, 1)),
    imported_at_s INTEGER NOT NULL,
    changed_at_s  INTEGER
) STRICT;

-- An image together with how VMs are made of it. `image` is a name: the image may go and come again.
CREATE TABLE profile (
    name       TEXT PRIMARY KEY,
    image      TEXT NOT NULL,
    template   TEXT,
    memory_mib INTEGER,
    cpus       INTEGER,
    owner_uid  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hook (
    profile TEXT NOT NULL REFERENCES profile (name) ON DELETE CASCADE,
    kind    TEXT NOT NULL CHECK (kind IN ('create', 'delete')),
    script  TEXT NOT NULL,
    PRIMARY KEY (profile, kind)
) STRICT, WITHOUT ROWID;

-- A VM; its row is its lease. The base VM has the number 0, and the volume of the image that it edits.
CREATE TABLE vm (
    number       INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    uuid         TEXT NOT NULL UNIQUE,
    thin_id      INTEGER NOT NULL UNIQUE REFERENCES volume (thin_id),
    image        TEXT NOT NULL,
    profile      TEXT,
    owner_uid    INTEGER NOT NULL,
    template     TEXT NOT NULL,
    memory_mib   INTEGER NOT NULL,
    cpus         INTEGER NOT NULL,
    created_at_s INTEGER NOT NULL,
    crash_cause  TEXT,
    -- Both stay as they are for the VM's life; the first is settled at its first start at the latest.
    machine      TEXT,
    layout       TEXT NOT NULL
) STRICT;

-- A snapshot of a VM's disk. `mapped_bytes` is looked at once it is there.
CREATE TABLE snapshot (
    thin_id      INTEGER PRIMARY KEY REFERENCES volume (thin_id) ON DELETE CASCADE,
    vm           INTEGER NOT NULL REFERENCES vm (number) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    created_at_s INTEGER NOT NULL,
    caught       TEXT NOT NULL CHECK (caught IN ('stopped', 'frozen', 'running')),
    mapped_bytes INTEGER,
    UNIQUE (vm, name)
) STRICT;

CREATE TABLE nic (
    vm      INTEGER NOT NULL REFERENCES vm (number) ON DELETE CASCADE,
    idx     INTEGER NOT NULL,
    mac     TEXT NOT NULL,
    network TEXT NOT NULL,
    PRIMARY KEY (vm, idx)
) STRICT, WITHOUT ROWID;

-- A running QEMU, for adoption after a restart of the daemon. `frozen` is 1 while its guest may have been asked
-- to hold its file systems still.
CREATE TABLE run (
    vm           INTEGER PRIMARY KEY REFERENCES vm (number) ON DELETE CASCADE,
    pid          INTEGER NOT NULL,
    start_time   INTEGER NOT NULL,
    accelerator  TEXT NOT NULL CHECK (accelerator IN ('kvm', 'tcg')),
    warning      TEXT,
    started_at_s INTEGER NOT NULL,
    frozen       INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1))
) STRICT;
