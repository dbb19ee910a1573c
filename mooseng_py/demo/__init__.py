"""The demonstration: nine nodes, real files, failures, nothing lost. Run it with `python -m mooseng_py.demo`."""
