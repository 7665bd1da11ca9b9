"""What an attacker, a careless log line or a stolen copy would find, and does not."""
