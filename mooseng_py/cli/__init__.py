"""The `mooseng` command."""
