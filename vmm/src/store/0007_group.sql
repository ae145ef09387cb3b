-- Migration 7. Frozen: a change to the schema is a new file.

-- The group that a VM was made into, if it was; a group is nothing but its VMs.
ALTER TABLE vm ADD COLUMN group_name TEXT;
