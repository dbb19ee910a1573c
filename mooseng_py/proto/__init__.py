"""The messages of every transport, generated from the `.proto` files beside this one; see `generate`."""
