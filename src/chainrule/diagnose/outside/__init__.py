"""Networks and tables of others, at the door."""
