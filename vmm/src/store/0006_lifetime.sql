-- Migration 6. Frozen: a change to the schema is a new file.

-- What a VM was given to live, if it was; when that is over; and when the daemon found it to be over.
ALTER TABLE vm ADD COLUMN ttl_s INTEGER;
ALTER TABLE vm ADD COLUMN expires_at_s INTEGER CHECK ((ttl_s IS NULL) = (expires_at_s IS NULL));
ALTER TABLE vm ADD COLUMN expired_at_s INTEGER CHECK (expired_at_s IS NULL OR ttl_s IS NOT NULL);
