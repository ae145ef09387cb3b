-- Migration 5. Frozen: a change to the schema is a new file.

-- A disk of a VM beside those of its template, from an image or empty. The guest reads its name as a serial number; name,
-- target and place (`00:08.0` of PCI, `scsi0:1`) stay for its life.
CREATE TABLE disk (
    thin_id      INTEGER PRIMARY KEY REFERENCES volume (thin_id) ON DELETE CASCADE,
    vm           INTEGER NOT NULL REFERENCES vm (number) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    target       TEXT NOT NULL,
    place        TEXT NOT NULL,
    image        TEXT,
    created_at_s INTEGER NOT NULL,
    UNIQUE (vm, name)
) STRICT;
