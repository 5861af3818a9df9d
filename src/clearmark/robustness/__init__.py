"""How well a mark of the user's own holds: what removal leaves of it, setting by setting."""
