-- Migration 2. Frozen: a change to the schema is a new file.

-- What its people say of a VM, and when one of them last did something with it.
ALTER TABLE vm ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE vm ADD COLUMN used_at_s INTEGER NOT NULL DEFAULT 0;
UPDATE vm SET used_at_s = created_at_s;
