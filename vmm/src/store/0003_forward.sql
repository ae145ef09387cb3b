-- Migration 3. Frozen: a change to the schema is a new file.

-- A port of the host that leads to a port of a VM, with whose row it goes.
CREATE TABLE forward (
    protocol  TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    host_port INTEGER NOT NULL CHECK (host_port BETWEEN 1 AND 65535),
    vm        INTEGER NOT NULL REFERENCES vm (number) ON DELETE CASCADE,
    vm_port   INTEGER NOT NULL CHECK (vm_port BETWEEN 1 AND 65535),
    owner_uid INTEGER NOT NULL,
    PRIMARY KEY (protocol, host_port)
) STRICT, WITHOUT ROWID;
