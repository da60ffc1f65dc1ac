"""What is printed of a run: six lines, the long report, the way from an id back to the wire."""
