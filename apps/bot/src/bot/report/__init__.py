"""What is printed of a run: seven lines, the long report, the way from an id back to the wire."""
