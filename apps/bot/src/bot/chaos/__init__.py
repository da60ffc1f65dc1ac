"""`bot chaos`: the bot through bad days of a recording, and which of its promises hold."""
