"""What happened, a line of JSON each, in files that rotate."""
