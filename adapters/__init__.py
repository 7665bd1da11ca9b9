"""The world: each room here fulfils a port with one outside technology."""
