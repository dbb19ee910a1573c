"""Benchmarks under pytest-benchmark: `pytest benchmarks/` at smoke sizes, `--full` at real ones. Each checks its bytes."""
