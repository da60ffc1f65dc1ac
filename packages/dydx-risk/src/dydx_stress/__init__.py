"""Figures of risk, and sizes that respect them."""
