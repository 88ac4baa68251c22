"""What an adapter is: values, files, compatibility, catalog and blob store. No torch, no vLLM."""
