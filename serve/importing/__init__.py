"""Networks of others on their way into the registry."""
