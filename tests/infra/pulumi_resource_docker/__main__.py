"""Run by the launcher in `bin`, which Pulumi finds on PATH by the plugin's name."""

from .plugin import main

main()
