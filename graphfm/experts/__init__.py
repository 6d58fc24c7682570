"""Pool of closed-form experts, combined by held-out loss."""
