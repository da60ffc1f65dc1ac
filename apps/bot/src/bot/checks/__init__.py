"""Trials: of the bot, of strategies, of signals and of this machine."""
