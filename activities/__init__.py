"""The deeds of a top-up, one outside effect each, over the Protocols in `ports`."""
