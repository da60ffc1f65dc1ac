"""`bot calibrate`: what scores were worth on recordings, and a model of the books they show."""
