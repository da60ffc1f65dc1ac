"""How a database of an earlier version becomes one of this: a file a version, run by Alembic."""
