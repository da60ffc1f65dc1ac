"""Keys, and what may be written about them."""
