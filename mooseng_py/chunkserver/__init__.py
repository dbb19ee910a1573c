"""The chunkserver daemon."""
