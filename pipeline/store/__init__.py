"""What lies on storage, and reading it."""
