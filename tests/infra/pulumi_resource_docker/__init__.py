"""A TEST DOUBLE of the docker provider plugin for Pulumi: real containers, the genuine plugin's rules, a tenth of its resources.

For tests where the genuine plugin cannot be fetched. Nothing of it ships, and it is no substitute: what it does not know it refuses.
Source of the rules: pulumi-docker 5.x and terraform-provider-docker 3.x, as far as docs/deploy.md relies on them.
"""
