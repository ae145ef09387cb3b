-- Migration 4. Frozen: a change to the schema is a new file.

-- What cloud-init in a VM is told, if the VM was made with something to tell; it goes with the VM's row.
CREATE TABLE seed (
    vm        INTEGER PRIMARY KEY REFERENCES vm (number) ON DELETE CASCADE,
    user_data TEXT NOT NULL,
    -- One public key on each line.
    ssh_keys  TEXT NOT NULL
) STRICT;
