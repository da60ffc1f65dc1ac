"""The versions of the database, each with what it changes in the one before."""
