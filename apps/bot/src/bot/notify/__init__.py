"""Notices: what a person away from the screen is to know, and how it gets there."""
