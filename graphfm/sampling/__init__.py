"""What goes into a step: bank, plan, neighbors, batch."""
