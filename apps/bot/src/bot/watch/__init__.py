"""Anybody's account, looked at without a key: nothing here can sign or send."""
