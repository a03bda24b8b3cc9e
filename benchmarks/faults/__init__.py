"""Every kind of fault, done to runs and to what they read, and counted."""
