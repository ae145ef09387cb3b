-- Migration 8. Frozen: a change to the schema is a new file.

-- A network beside the default one, which the configuration has. `bridge` is that of the host's own to which the mode
-- `bridge` leads; the other modes have a bridge of fvm's, named after the network, and a subnet.
CREATE TABLE network (
    name           TEXT PRIMARY KEY,
    mode           TEXT NOT NULL CHECK (mode IN ('nat', 'route', 'isolated', 'bridge')),
    subnet         TEXT CHECK ((subnet IS NULL) = (mode = 'bridge')),
    bridge         TEXT CHECK ((bridge IS NULL) = (mode <> 'bridge')),
    isolate_guests INTEGER NOT NULL CHECK (isolate_guests IN (0, 1))
) STRICT, WITHOUT ROWID;

-- Whether `network` is the name of a bridge of the host's own.
ALTER TABLE nic ADD COLUMN is_bridge INTEGER NOT NULL DEFAULT 0 CHECK (is_bridge IN (0, 1));
-- What a card is that was added to the VM; those of its template have that there.
ALTER TABLE nic ADD COLUMN model TEXT;
