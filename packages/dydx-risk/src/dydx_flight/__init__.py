"""The flight plan: how an account gets out before it is liquidated."""
