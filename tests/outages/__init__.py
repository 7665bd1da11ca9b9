"""Outages: the whole product in its real programs, killed, stopped and started again while money is on its way."""
