"""Files over HTTP, in OpenAI's words."""
