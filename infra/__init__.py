"""The Pulumi program: one stack's configuration becomes a running cluster in containers. Importing it does nothing."""
