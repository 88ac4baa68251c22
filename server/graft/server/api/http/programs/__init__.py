"""Programs called as models: `model="prompt:<name>"`, and OpenAI's `prompt: {id, version, variables}`."""
