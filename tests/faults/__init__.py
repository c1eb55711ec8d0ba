"""The fault suite: real servers, real role processes, a load, faults while it runs, and an account at the end."""
