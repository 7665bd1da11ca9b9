"""The channels on which owners are told: e-mail, and push."""
