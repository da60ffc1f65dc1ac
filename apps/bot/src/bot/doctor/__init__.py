"""`bot doctor`: what would stop a run here: the machine, the venue, and what is beside a run."""
