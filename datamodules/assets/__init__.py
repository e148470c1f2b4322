"""Download files, verified against known checksums."""
