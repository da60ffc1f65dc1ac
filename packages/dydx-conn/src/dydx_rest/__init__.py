"""Questions to the indexer over HTTP."""
