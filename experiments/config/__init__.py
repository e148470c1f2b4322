"""What a config may say: reading, checking and naming, without importing torch."""
