"""The live edge of orders."""
