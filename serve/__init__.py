"""The searcher for browsers, programs and assistants: a page, an HTTP API, MCP."""
