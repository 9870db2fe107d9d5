"""What stages cost, told before they run: passes through networks, counted from settings, and measured rates."""
