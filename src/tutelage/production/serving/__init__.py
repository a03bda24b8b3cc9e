"""The service: an exported model behind HTTP."""
