"""One training, from its first update to its outcome on storage."""
