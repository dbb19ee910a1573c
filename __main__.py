"""The Pulumi program of this repository: one stack, one cluster. Run by `pulumi up`; see docs/deploy.md."""

from infra.program import main

if __name__ == "__main__":
    main()
