"""The web dashboard: looks at a cluster at a fixed pace, remembers what it saw, and serves that and the files. Changes nothing."""
