"""What runs beside the screen; each function posts its result as a message."""
