"""What can be read: one module a read model, and the runner that keeps them."""
